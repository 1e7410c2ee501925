"""TensorRT in the C++ host, as far as it goes without a GPU and without NVIDIA's libraries.

The engine's own tests are runtime/cpp/tests/test_tensorrt.cpp, on a GPU of the host's memory.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from a2edit.runtime.targets import TARGETS, target_of
from tests.cpp.conftest import SOURCE, command

# Each of NVIDIA's products: the file that its library is, and the hint of its folder.
PRODUCTS = {
    "tensorrt": ("libnvinfer.so", "TENSORRT_ROOT"),
    "tensorrt_rtx": ("libtensorrt_rtx.so", "TENSORRT_RTX_ROOT"),
}
MAJOR = {"tensorrt": "TRT_MAJOR_ENTERPRISE", "tensorrt_rtx": "TRT_MAJOR_RTX"}


def facts(name: str) -> list[object]:
    target = TARGETS[name]
    return [target.name, target.device, list(target.precisions)]


def test_targets_are_pythons(probe: Any, same_refusal: Any) -> None:
    for name, target in TARGETS.items():
        assert probe.answer("target_named", name) == facts(name)
        if target.capability:
            assert probe.answer("target_of", *target.capability) == facts(name)
    assert probe.answer("target_named", "sm13") is None
    for gpu in ((7, 0), (10, 0), (0, 0)):
        same_refusal(lambda gpu=gpu: target_of(gpu), lambda gpu=gpu: probe("target_of", *gpu))


def check_syntax(source: str, *folders: Path) -> None:
    headers = [word for folder in folders for word in ("-isystem", folder)]
    done = command(
        "c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", SOURCE, *headers,
        SOURCE / "src" / "engines" / source,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def cuda_headers() -> Path:
    """CUDA's, which Triton brings along."""
    return Path(pytest.importorskip("triton").__file__).parent / "backends" / "nvidia" / "include"


def test_the_adapter_of_cuda_compiles(cuda_headers: Path) -> None:
    check_syntax("cudart.cpp", cuda_headers)


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_adapter_of_a_product_compiles(
    cpp_build: Path, cuda_headers: Path, product: str
) -> None:
    """Against the headers of the folder that a variable names, or that CMake found."""
    variable = f"A2EDIT_{product.upper()}_INCLUDE"
    cache = (cpp_build / "CMakeCache.txt").read_text()
    found = re.search(rf"^TensorRT_{product}_INCLUDE_DIR:\w+=(.*)$", cache, re.MULTILINE)
    headers = Path(os.environ.get(variable) or (found[1] if found else ""))
    if not (headers / "NvInfer.h").is_file():
        pytest.skip(f"{product} has no headers here: {variable} names their folder")
    check_syntax("nvinfer.cpp", headers, cuda_headers)


def installed(folder: Path, major: str, library: str | None) -> Path:
    """Where CMake looks: a header's version lines and a library's name, and no more than that."""
    for name in ("include", "lib"):
        (folder / name).mkdir(parents=True)
    (folder / "include" / "NvInfer.h").write_text("#error no header of NVIDIA's\n")
    lines = f"#define {major} 7\n#define {major.replace('MAJOR', 'MINOR')} 8\n"
    lines += f"#define {major.replace('MAJOR', 'PATCH')} 9\n#define NV_TENSORRT_LWS_MAJOR 0\n"
    (folder / "include" / "NvInferVersion.h").write_text(lines)
    if library:
        (folder / "lib" / library).touch()
    return folder


def configured(folder: Path, *options: str, cuda: bool = True) -> Any:
    """What cmake/tensorrt.cmake says in a project of nothing else."""
    folder.mkdir()
    modules = folder / "modules"
    modules.mkdir()
    found = str(cuda).upper()
    (modules / "FindCUDAToolkit.cmake").write_text(f"set(CUDAToolkit_FOUND {found})\n")
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(found LANGUAGES CXX)\n"
        # nothing that this machine has
        "set(CMAKE_FIND_USE_CMAKE_SYSTEM_PATH OFF)\n"
        "set(CMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH OFF)\n"
        f'list(APPEND CMAKE_MODULE_PATH "{modules}" "{SOURCE}/cmake")\n'
        f'include("{SOURCE}/cmake/tensorrt.cmake")\n'
        'message(STATUS "built: [${A2EDIT_TENSORRT_PRODUCTS}] beside [${CMAKE_BUILD_RPATH}]")\n'
    )
    return command("cmake", "-S", folder, "-B", folder / "build", "-G", "Ninja", *options)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("suffix", ["", ".7"])
def test_a_product_is_found_by_its_hint(tmp_path: Path, product: str, suffix: str) -> None:
    library, hint = PRODUCTS[product]
    root = installed(tmp_path / "it", MAJOR[product], library + suffix)
    done = configured(tmp_path / "project", "-DA2EDIT_TENSORRT=ON", f"-D{hint}={root}")
    assert done.returncode == 0, done.stderr
    assert f"Engine {product}: headers of 7.8.9" in done.stdout
    assert f"built: [{product}] beside [{root / 'lib'}]" in done.stdout


def test_both_products_are_built_where_both_are_found(tmp_path: Path) -> None:
    hints = [
        f"-D{hint}={installed(tmp_path / name, MAJOR[name], library)}"
        for name, (library, hint) in PRODUCTS.items()
    ]
    done = configured(tmp_path / "project", "-DA2EDIT_TENSORRT=AUTO", *hints)
    assert "built: [tensorrt;tensorrt_rtx]" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("given", "major", "library", "cuda", "missing"),
    [
        ("tensorrt", "TRT_MAJOR_RTX", "libnvinfer.so", True, "tensorrt lacks its NvInfer.h;"),
        ("tensorrt", "NV_TENSORRT_MAJOR", None, True, "tensorrt lacks libnvinfer;"),
        ("tensorrt_rtx", "TRT_MAJOR_ENTERPRISE", "libtensorrt_rtx.so", True,
         "tensorrt_rtx lacks its NvInfer.h"),
        ("tensorrt_rtx", "TRT_MAJOR_RTX", "libtensorrt_rtx.so", False,
         "tensorrt_rtx lacks CUDA's runtime"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(
    tmp_path: Path, given: str, major: str, library: str | None, cuda: bool, missing: str
) -> None:
    hint = f"-D{PRODUCTS[given][1]}={installed(tmp_path / 'it', major, library)}"
    auto = configured(tmp_path / "auto", "-DA2EDIT_TENSORRT=AUTO", hint, cuda=cuda)
    assert auto.returncode == 0, auto.stderr
    assert missing in auto.stdout
    assert "built: []" in auto.stdout
    asked = configured(tmp_path / "on", "-DA2EDIT_TENSORRT=ON", hint, cuda=cuda)
    assert asked.returncode != 0
    said = " ".join(asked.stderr.split())
    assert missing in said
    assert "Give -DTENSORRT_ROOT=, -DTENSORRT_RTX_ROOT=" in said


def test_off_looks_for_nothing(tmp_path: Path) -> None:
    library, hint = PRODUCTS["tensorrt"]
    root = installed(tmp_path / "it", MAJOR["tensorrt"], library)
    done = configured(tmp_path / "project", "-DA2EDIT_TENSORRT=OFF", f"-D{hint}={root}")
    assert "built: []" in done.stdout
    assert "lacks" not in done.stdout

"""The library as a host has it: installed, found by another project, edits as Python's."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from a2edit import Editor, EditRequest
from tests.cpp.conftest import command

PROJECT = Path(__file__).parent / "project"
EDIT = {"image": "scene", "mask": "mask", "reference": "red"}


@pytest.fixture(scope="session")
def programs(cpp_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another project's programs, built against an installed library that was moved since."""
    folder = tmp_path_factory.mktemp("host")
    for words in (
        ("cmake", "--install", cpp_build, "--prefix", folder / "installed"),
        ("mv", folder / "installed", folder / "moved"),
        ("cmake", "-G", "Ninja", "-S", PROJECT, "-B", folder / "build",
         f"-DCMAKE_PREFIX_PATH={folder / 'moved'}"),
        ("cmake", "--build", folder / "build"),
    ):  # fmt: skip
        done = command(*words)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build"


def test_the_header_is_c99(programs: Path) -> None:
    done = command(programs / "version")
    assert done.returncode == 0, done
    assert "bundle 'nowhere' does not exist: build one with" in done.stdout


def test_the_kernels_headers_are_installed(programs: Path) -> None:
    done = command(programs / "kernels")
    bands, largest = 2, 0x7E
    assert done.stdout == f"{1 + bands + 100} {largest}\n", done


def test_the_headers_functions_are_exported_and_nothing_else(cpp_build: Path) -> None:
    library = cpp_build / "liba2edit.so"
    listed = command("nm", "-D", "--defined-only", "--format=just-symbols", library)
    header = (PROJECT.parents[2] / "runtime/cpp/include/a2edit/a2edit.h").read_text()
    declared = set(re.findall(r"\b(a2edit_\w+)\(", header))
    assert set(listed.stdout.split()) == declared


@pytest.mark.parametrize(("threads", "edits"), [(1, 2), (4, 2)])
def test_edits_are_pythons(
    programs: Path, byte_bundle: Path, pictures: Path, tmp_path: Path, threads: int, edits: int
) -> None:
    given = [pictures / name for name in ("scene.png", "mask.png", "red.png")]
    done = command(programs / "edits", byte_bundle, *given, tmp_path / "x", threads, edits)
    assert done.returncode == 0, done.stderr
    with Editor.open(byte_bundle) as editor:
        for seed in range(threads * edits):
            result = editor.edit(
                EditRequest(
                    image=given[0],
                    mask=given[1],
                    reference=given[2],
                    seed=seed,
                    steps=2,
                    prompt="a red",
                )
            )
            with Image.open(tmp_path / f"x{seed}.png") as found:
                np.testing.assert_array_equal(np.asarray(found), np.asarray(result.image))
                assert found.info == result.text()


@pytest.mark.parametrize(
    ("role", "kept", "said"),
    [
        ("mask", None, "the mask is 40x40"),
        ("mask", 90, "the mask is damaged or of an unknown kind"),
        ("reference", 90, "the reference is damaged or of an unknown kind"),
    ],
)
def test_a_refusal_is_pythons(
    programs: Path,
    byte_bundle: Path,
    pictures: Path,
    tmp_path: Path,
    role: str,
    kept: int | None,
    said: str,
) -> None:
    """Of a file in memory, which Python is given as Pillow has it."""
    given = {name: pictures / f"{file}.png" for name, file in EDIT.items()}
    data = (pictures / "red.png").read_bytes()[:kept]
    given[role] = tmp_path / "given.png"
    given[role].write_bytes(data)
    words = (given["image"], given["mask"], given["reference"])
    done = command(programs / "edits", byte_bundle, *words, tmp_path / "x", 1, 1)
    assert done.returncode == 2
    known: dict[str, Any] = {**given, role: Image.open(io.BytesIO(data))}
    with Editor.open(byte_bundle) as editor, pytest.raises(ValueError, match=said) as expected:
        editor.edit(EditRequest(**known))
    assert done.stderr == f"error: {expected.value}\n"
    assert not list(tmp_path.glob("x*"))


def test_the_command_lines_edit_is_pythons(
    cpp_build: Path, byte_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {name: pictures / f"{file}.png" for name, file in EDIT.items()}
    options = [word for name, path in given.items() for word in (f"--{name}", path)]
    out = tmp_path / "edit.png"
    program = cpp_build / "host" / "a2edit-host"
    done = command(
        program, "--bundle", byte_bundle, *options, "--prompt=red", "--seed=5", "--out", out
    )
    assert done.returncode == 0, done.stderr
    with Editor.open(byte_bundle) as editor:
        result = editor.edit(EditRequest(**given, prompt="red", seed=5))
    image = Image.open(out)
    assert isinstance(image, PngImagePlugin.PngImageFile)
    assert image.text == result.text()
    np.testing.assert_array_equal(np.asarray(image), np.asarray(result.image))
    told = f"{out}: route {result.route} ({result.supply}), predicted error"
    assert done.stdout.startswith(
        f"{told} {result.predicted_error:.2%}, seed 5, {result.steps} steps,"
    )

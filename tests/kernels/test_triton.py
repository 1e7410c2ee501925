"""The Triton kernels: computed in the interpreter, compiled for every kind of GPU, run on one.

`triton_checks.py` and `triton_merge_checks.py` compare with numpy, in processes of their own; here
are those processes, and what compilers say of the kernels at the full model's sizes.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("Triton comes for Linux only", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from a2edit.kernels.triton import merge_quantize
from a2edit.kernels.triton.modulate_norm import modulate_norm, modulate_norm_kernel
from a2edit.kernels.triton.qk_norm_rope import qk_norm_rope, qk_norm_rope_kernel
from a2edit.kernels.triton.quantize_activation import (
    quantize_activation,
    quantize_activation_kernel,
    warps_for,
)
from tests.processes import run_tests

CHECKS = ("triton_checks.py", "triton_merge_checks.py")
CAPABILITIES = (80, 89, 90, 120)
# Of one program without asking for more, on all of them; and registers of a multiprocessor.
SHARED_BYTES, REGISTERS = 48 * 1024, 65536


def checked(name: str, environment: dict[str, str]) -> None:
    run_tests(Path(__file__).with_name(name), environment, r"\d\d passed")


@pytest.mark.parametrize("name", CHECKS)
def test_the_interpreter_computes_what_numpy_does(name: str) -> None:
    checked(name, {"TRITON_INTERPRET": "1"})


@pytest.mark.gpu
@pytest.mark.parametrize("name", CHECKS)
def test_the_gpu_computes_what_numpy_does(name: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch was built without CUDA")
    checked(name, {"TRITON_INTERPRET": "0"})


@pytest.mark.gpu
@pytest.mark.parametrize(
    "name", ["merge_quantize", "quantize_activation", "modulate_norm", "qk_norm_rope"]
)
def test_a_gpu_is_kept_busy_moving_bytes(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    """At the full model's sizes, against a copy of as many bytes."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch was built without CUDA")
    rows, columns = (12288, 3072) if name == "merge_quantize" else (5337, 3072)
    half = {"device": "cuda", "dtype": torch.bfloat16}
    x = torch.randn(rows, columns, **half)
    levels = torch.empty(rows, columns, device="cuda", dtype=torch.uint8)
    scales = torch.empty(rows, device="cuda")
    A, B = torch.randn(3, 32, columns, **half), torch.randn(3, rows, 32, **half)
    weights, vector = torch.rand(3, device="cuda"), torch.randn(columns, **half)
    words = merge_quantize.workspace_size(rows)
    space = torch.empty(words, device="cuda", dtype=torch.int32)
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    heads = x.view(rows, -1, 128)
    turned = torch.empty(2, *heads.shape, **half)
    table = torch.rand(rows, 64, device="cuda")
    calls: dict[str, Callable[[], None]] = {
        "merge_quantize": lambda: merge_quantize.merge_quantize(
            x, A, B, weights, levels, scales, space, scale=1.0, fp8=True, processors=processors
        ),
        "quantize_activation": lambda: quantize_activation(x, levels, scales, fp8=True),
        "modulate_norm": lambda: modulate_norm(x, vector, vector, levels, scales, fp8=True),
        "qk_norm_rope": lambda: qk_norm_rope(
            heads, heads, vector[:128], vector[:128], table, table, turned[0], turned[1]
        ),
    }
    # q and k are one tensor here, which is read from memory once at best
    nbytes = x.nbytes + (turned.nbytes if name == "qk_norm_rope" else levels.nbytes)
    source = torch.empty(nbytes // 2, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    kernel, copy = (
        nbytes / triton.testing.do_bench(call) * 1e3
        for call in (calls[name], lambda: target.copy_(source))
    )
    record_property("bytes per second, of a copy too", (kernel, copy))
    assert kernel >= 0.7 * copy


@dataclass(frozen=True, slots=True)
class Variant:
    """A kernel with its types and constants, as a full-size step would launch it."""

    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    warps: int

    def compiled(self, capability: int) -> Any:
        names = self.kernel.arg_names
        assert set(names) == set(self.types) | set(self.constants)
        signature = {name: self.types.get(name, "constexpr") for name in names}
        # As at a launch: addresses and sizes of the full model are multiples of 16.
        sixteens: dict[tuple[int, ...], Any] = {
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(names)
            if signature[name] not in {"constexpr", "fp32"} and name != "heads"
        }
        source = ASTSource(self.kernel, signature, self.constants, sixteens)
        options = {"num_warps": self.warps, "enable_fp_fusion": True}
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def merging(fp8: bool, phase: Any, base: str = "*bf16", factors: str = "*bf16") -> Variant:
    """Of 8 bits, or of bfloat16 where the phase is CAST."""
    cast = phase.value == merge_quantize.CAST.value
    return Variant(
        merge_quantize.merge_quantize_kernel,
        {
            "base": base,
            **dict.fromkeys(("A", "B"), factors),
            **dict.fromkeys(("base_scales", "weights", "smooth"), "*fp32"),
            "levels": "*bf16" if cast else "*u8" if fp8 else "*i8",
            "scales": "*bf16",
            "workspace": "*i32",
            **dict.fromkeys(("out", "inner"), "i32"),
            "factor": "fp32",
        },
        merge_quantize.constants(
            phase, 8, 32, wide=factors == "*fp32", fp8=fp8, smooth=not (fp8 or cast)
        ),
        merge_quantize.WARPS,
    )


def tokenwise(kernel: Any, more: dict[str, str], channels: int, fp8: bool) -> Variant:
    types = {"x": "*bf16", **more, "levels": "*u8" if fp8 else "*i8", "scales": "*fp32"}
    block = triton.next_power_of_2(channels)
    constants = {"BLOCK": block, "FP8": fp8, "PER_TOKEN": True}
    return Variant(kernel, types | {"channels": "i32"}, constants, warps_for(channels))


MODULATION = {"shift": "*bf16", "scale": "*bf16", "epsilon": "fp32"}
ROTATION = Variant(
    qk_norm_rope_kernel,
    {
        **dict.fromkeys(("q", "k", "q_weight", "k_weight", "q_out", "k_out"), "*bf16"),
        **dict.fromkeys(("cosines", "sines"), "*fp32"),
        **dict.fromkeys(("heads", "stride", "out_stride"), "i32"),
        "epsilon": "fp32",
    },
    {"HEADS": 32, "D": 128},
    4,
)
VARIANTS = {
    "merge_quantize": lambda fp8: merging(fp8, merge_quantize.ONE_PASS),
    "merge_quantize-maxima": lambda fp8: merging(fp8, merge_quantize.MAXIMA),
    "merge_quantize-int8": lambda fp8: merging(fp8, merge_quantize.ONE_PASS, base="*i8"),
    "merge_quantize-fp32": lambda fp8: merging(
        fp8, merge_quantize.ONE_PASS, base="*fp32", factors="*fp32"
    ),
    "merge_quantize-cast": lambda fp8: merging(fp8, merge_quantize.CAST),
    "quantize_activation": lambda fp8: tokenwise(quantize_activation_kernel, {}, 15360, fp8),
    "modulate_norm": lambda fp8: tokenwise(modulate_norm_kernel, MODULATION, 3072, fp8),
    "qk_norm_rope": lambda fp8: ROTATION,
}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kernels are compiled here and now, not taken from an earlier run's cache."""
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path_factory.mktemp("triton"))
        yield


def assembled(ptx: str, capability: int, folder: Path) -> str:
    """What ptxas, which comes with Triton, says of registers and spills."""
    target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)
    assert target
    assert target[1].startswith(f"sm_{capability}")
    file = folder / "kernel.ptx"
    file.write_text(ptx, encoding="utf-8")
    command = [
        get_ptxas(capability).path,
        "-v",
        "--gpu-name",
        target[1],
        str(file),
        "-o",
        os.devnull,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("name", VARIANTS)
def test_cubins_fit_their_gpu(name: str, capability: int, tmp_path: Path) -> None:
    fp8 = capability >= 89
    compiled = VARIANTS[name](fp8).compiled(capability)
    assert compiled.asm["cubin"].startswith(b"\x7fELF")
    ptx = compiled.asm["ptx"]
    assert ".e4m3" not in ptx, "conversion is ours on every GPU"
    said = assembled(ptx, capability, tmp_path)
    assert "0 bytes spill stores, 0 bytes spill loads" in said, said
    assert compiled.metadata.shared <= SHARED_BYTES
    if name.startswith("merge_quantize"):
        # there are none for fp32, whose products must not be rounded
        assert ("mma" in ptx) == (name != "merge_quantize-fp32"), "products run on tensor cores"
        used = re.search(r"Used (\d+) registers", said)
        assert used
        threads = merge_quantize.WARPS * 32
        assert int(used[1]) * threads * merge_quantize.RESIDENT <= REGISTERS


def test_fp8_compiles_where_there_is_no_fp8() -> None:
    """Weights in E4M3 may be made on an A100 for another GPU: integers are enough."""
    assert VARIANTS["merge_quantize"](True).compiled(80).asm["cubin"]

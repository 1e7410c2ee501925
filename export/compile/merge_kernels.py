"""`merge_quantize` of kernels/triton as cubins for one GPU, which a bundle carries (decision 21).

They are compiled in a process of its own: Triton reads its settings from the environment, and a
build must not depend on a user's. Equal types and an equal Triton give equal bytes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from a2edit.export.files import read_json, write_json
from a2edit.kernels.reference import LEVELS
from a2edit.runtime.engines.base import TensorSpec
from a2edit.runtime.errors import EngineError, TargetError
from a2edit.runtime.manifest import MergeEntry
from a2edit.runtime.merge_kernels import MergeKernelEntry
from a2edit.runtime.targets import Target
from a2edit.runtime.tensors import StoredTensor, map_tensors

KERNELS_FILE = "kernels.json"
_FIRST = (8, 0)  # the first compute capability that Triton compiles for
# What changes how Triton, LLVM and ptxas compile, and where they keep what they made.
_SETTINGS = ("TRITON_", "LLVM_", "MLIR_", "DISABLE_", "NVPTX_", "PTXAS_", "USE_IR_")
_POINTERS = {
    "float32": "*fp32",
    "float16": "*fp16",
    "bfloat16": "*bf16",
    "int8": "*i8",
    "float8_e4m3fn": "*u8",  # its bits
}
# The kernel's arguments as PTX names their types: nine pointers, out, inner, factor.
_ARGUMENTS = (*["u64"] * 9, "u32", "u32", "f32")


@dataclass(frozen=True, slots=True, order=True)
class MergeTypes:
    """What a linear is merged from and into; fields as in `MergeKernelEntry`."""

    base: str
    factors: str
    weight: str
    scale: str
    smooth: bool

    @property
    def phases(self) -> tuple[str, ...]:
        return ("one_pass", "maxima", "levels") if self.scale else ("cast",)

    def file(self, phase: str) -> str:
        words = phase, self.base, self.factors, self.weight, self.scale, self.smooth and "smooth"
        return f"merge_{'_'.join(word for word in words if word)}.cubin"


@dataclass(frozen=True, slots=True)
class MergeWork:
    """What the kernels of a denoiser's variant are compiled for.

    Attributes:
        types: that its routed linears have, each once.
        experts: N of every linear.
        rank: r of every linear.
        sixteens: whether every linear's sides are multiples of 16, which the kernels then count on.
    """

    types: tuple[MergeTypes, ...]
    experts: int
    rank: int
    sixteens: bool


def merge_work(source: Path, entry: MergeEntry, weights: Sequence[TensorSpec]) -> MergeWork:
    """What a route's `weights` are merged from in `source`, a merge.safetensors, as RouteMerger.

    Raises:
        EngineError: linears that one set of kernels cannot merge.
    """
    stored, wanted = map_tensors(source).tensors, {spec.name: spec for spec in weights}
    types: set[MergeTypes] = set()
    ranks: set[tuple[int, ...]] = set()
    sides: set[int] = set()
    for name in entry.blocks:
        types.add(_types(stored, wanted, name))
        ranks.add(stored[f"{name}.A"].array.shape[:2])
        sides.update(stored[f"{name}.weight"].array.shape)
    if len(ranks) != 1:
        shapes = ", ".join(f"{rank} × {experts}" for experts, rank in sorted(ranks))
        raise EngineError(f"its linears have experts of several ranks ({shapes})")
    ((experts, rank),) = ranks
    return MergeWork(tuple(sorted(types)), experts, rank, all(side % 16 == 0 for side in sides))


def _types(
    stored: Mapping[str, StoredTensor], wanted: Mapping[str, TensorSpec], name: str
) -> MergeTypes:
    base, A, B = (stored[f"{name}.{part}"].dtype for part in ("weight", "A", "B"))
    if A != B:
        raise EngineError(f"the experts of {name} are {A} in A and {B} in B")
    weight = wanted[f"{name}.weight"].dtype
    return MergeTypes(
        base=base,
        factors=A,
        weight=weight,
        scale=wanted[f"{name}.scale"].dtype if weight in LEVELS else "",
        smooth=weight == "int8" and f"{name}.smooth" in stored,
    )


def triton_version() -> str | None:
    """None where Triton is not installed."""
    try:
        return version("triton")
    except PackageNotFoundError:
        return None


def check_triton(target: Target) -> None:
    """Raises TargetError where no kernels can be compiled for a GPU here."""
    if target.capability is None or target.capability < _FIRST:
        raise TargetError(f"Triton does not compile for {target.name}")
    if triton_version() is None:
        raise TargetError(
            "Triton is not installed; `pip install 'a2edit[kernels]'` and build again"
        )


def save_merge_kernels(folder: Path, target: Target, work: MergeWork) -> None:
    """The cubins that `work` needs on `target`, and kernels.json, which lists them.

    Raises:
        EngineError: Triton does not compile them, or gives them arguments that we do not know.
    """
    job = {"folder": str(folder), "capability": _number(target), "work": asdict(work)}
    with tempfile.TemporaryDirectory() as cache:
        own = {key: value for key, value in os.environ.items() if not key.startswith(_SETTINGS)}
        # line numbers would come with the paths of this machine
        own |= {"TRITON_CACHE_DIR": cache, "TRITON_DISABLE_LINE_INFO": "1"}
        command = [sys.executable, "-m", __name__, json.dumps(job)]
        done = subprocess.run(  # noqa: S603 # ourselves
            command, capture_output=True, text=True, check=False, env=own
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        raise EngineError(
            f"triton {triton_version()} cannot compile merge_quantize for {target.name}: "
            f"{lines[-1]}; another version of it may"
        )


def read_merge_kernels(folder: Path, place: str) -> tuple[MergeKernelEntry, ...]:
    """What `save_merge_kernels` wrote, for files that will lie in the bundle's folder `place`."""
    entries = (MergeKernelEntry(**content) for content in read_json(folder / KERNELS_FILE))
    return tuple(replace(entry, file=f"{place}/{entry.file}") for entry in entries)


def _number(target: Target) -> int:
    """As Triton names a compute capability."""
    assert target.capability
    major, minor = target.capability
    return 10 * major + minor


def _compile(folder: str, capability: int, work: MergeWork) -> None:
    """In a process of its own."""
    entries = [
        _kernel(Path(folder), capability, work, types, phase)
        for types in work.types
        for phase in types.phases
    ]
    write_json(Path(folder) / KERNELS_FILE, [asdict(entry) for entry in entries])


def _kernel(
    folder: Path, capability: int, work: MergeWork, types: MergeTypes, phase: str
) -> MergeKernelEntry:
    import triton
    from triton.backends.compiler import GPUTarget

    from a2edit.kernels.triton import merge_quantize as merging

    options = {"num_warps": merging.WARPS, "enable_fp_fusion": True}
    target = GPUTarget("cuda", capability, 32)
    made = triton.compile(_source(work, types, phase), target=target, options=options)
    scratch = _hidden(made.asm["ptx"])
    told = made.metadata
    if told.global_scratch_size or told.profile_scratch_size or told.tmem_size:
        raise SystemExit("it asks for memory beside its arguments")
    file = types.file(phase)
    (folder / file).write_bytes(made.asm["cubin"])
    return MergeKernelEntry(
        file=file,
        symbol=told.name,
        phase=phase,
        **asdict(types),
        threads=32 * told.num_warps,
        shared=told.shared,
        rows=merging.ROWS,
        columns=merging.COLUMNS,
        scratch=scratch,
    )


def _source(work: MergeWork, types: MergeTypes, phase: str) -> Any:
    """The kernel with its types, as the runtime launches it."""
    from triton.compiler import ASTSource

    from a2edit.kernels.triton import merge_quantize as merging

    base, factors, weight, scale, smooth = astuple(types)
    kernel = merging.merge_quantize_kernel
    given = {
        "base": _POINTERS[base],
        **dict.fromkeys(("A", "B"), _POINTERS[factors]),
        **dict.fromkeys(("base_scales", "weights", "smooth"), "*fp32"),
        "levels": _POINTERS[weight],
        "scales": _POINTERS[scale or "float32"],
        "workspace": "*i32",
        **dict.fromkeys(("out", "inner"), "i32"),
        "factor": "fp32",
    }
    constants = merging.constants(
        getattr(merging, phase.upper()),
        work.experts,
        work.rank,
        wide=factors == "float32",
        fp8=weight == "float8_e4m3fn",
        smooth=smooth,
    )
    counted_on = {name for name, kind in given.items() if kind.startswith("*")}
    if work.sixteens:
        counted_on |= {"out", "inner"}
    sixteens: dict[tuple[int, ...], Any] = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(kernel.arg_names)
        if name in counted_on
    }
    signature = {name: given.get(name, "constexpr") for name in kernel.arg_names}
    return ASTSource(kernel, signature, constants, sixteens)


def _hidden(ptx: str) -> int:
    """How many pointers a kernel takes behind its own arguments."""
    entry = re.search(r"\.entry \w+\((.*?)\)", ptx, re.DOTALL)
    found = re.findall(r"\.param \.(\w+)", entry[1]) if entry else []
    own, behind = tuple(found[: len(_ARGUMENTS)]), found[len(_ARGUMENTS) :]
    if own != _ARGUMENTS or set(behind) - {"u64"}:
        raise SystemExit(f"it takes ({', '.join(found)}), and not ({', '.join(_ARGUMENTS)})")
    return len(behind)


def _main(job: str) -> None:
    given = json.loads(job)
    types = tuple(MergeTypes(**content) for content in given["work"].pop("types"))
    _compile(given["folder"], given["capability"], MergeWork(types, **given["work"]))


if __name__ == "__main__":
    _main(sys.argv[1])

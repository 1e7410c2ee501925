"""The work of a merge kernel, done at the addresses of its arguments: by numpy, or by Triton."""

import ctypes
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from a2edit.export.weights import TensorFile
from a2edit.kernels.reference import LEVELS, merge_weight, narrowed, quantise_rows, widened
from a2edit.runtime.engines.base import Array, TensorSpec, numpy_name
from a2edit.runtime.manifest import MergeEntry
from a2edit.runtime.merge_kernels import MergeKernelEntry

# Of two linears, and a table for them; its third row is past the last block.
EXPERTS, RANK, SCALE = 3, 5, 0.5
SHAPES = {"a": (0, 70, 48), "b": (1, 33, 300)}  # block, out, in
TABLE = np.array([[2, 0, -0.5], [0, 0, 0], [9, 9, 9]], np.float32)
# What is stored, what the graph takes, and whether columns have factors.
CASES = [
    ("bfloat16", "int8", False),
    ("bfloat16", "int8", True),
    ("bfloat16", "float8_e4m3fn", False),
    ("bfloat16", "bfloat16", False),
    ("float16", "float16", False),
    ("float32", "float32", False),
    ("float32", "int8", True),
    ("int8", "float8_e4m3fn", False),
    ("int8", "bfloat16", False),
]
PHASES = {True: ("one_pass", "maxima", "levels"), False: ("cast",)}


def whole(seed: int, *shape: int) -> Array:
    """Small whole numbers, whose sums are exact in any order."""
    found: Array = np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)
    return found


def write_source(path: Path, dtype: str = "bfloat16", *, smooth: bool = False) -> MergeEntry:
    tensors: dict[str, tuple[str, Array]] = {}
    for seed, (name, (_, out, inner)) in enumerate(SHAPES.items()):
        base = whole(seed, out, inner)
        if dtype == "int8":
            tensors[f"{name}.weight"] = "int8", base.astype(np.int8)
            scales = 2.0 ** whole(seed + 7, out)
            tensors[f"{name}.base_scale"] = "float32", scales.astype(np.float32)
        else:
            tensors[f"{name}.weight"] = dtype, narrowed(base, dtype)
        factors = "bfloat16" if dtype == "int8" else dtype
        A, B = whole(seed + 3, EXPERTS, RANK, inner), whole(seed + 5, EXPERTS, out, RANK)
        tensors[f"{name}.A"], tensors[f"{name}.B"] = (
            (factors, narrowed(part, factors)) for part in (A, B)
        )
        if smooth:
            factor = 2.0 ** whole(seed + 9, inner)
            tensors[f"{name}.smooth"] = "float32", factor.astype(np.float32)
    specs = [TensorSpec(name, kind, array.shape) for name, (kind, array) in tensors.items()]
    with TensorFile(path, specs) as file:
        for name, (_, array) in tensors.items():
            file.write(name, array)
    return MergeEntry(
        file=path.name, scale=SCALE, blocks={name: block for name, (block, *_) in SHAPES.items()}
    )


def weights_of(
    dtype: str,
    scale: str = "bfloat16",
    shapes: Mapping[str, tuple[int, int, int]] = SHAPES,
) -> list[TensorSpec]:
    """What a graph takes of such linears: their weights, and scales beside 8 bits."""
    found = []
    for name, (_, out, inner) in shapes.items():
        found.append(TensorSpec(f"{name}.weight", dtype, (out, inner)))
        if dtype in LEVELS:
            found.append(TensorSpec(f"{name}.scale", scale, (out,)))
    return found


def kernels_of(
    folder: Path, base: str, weight: str, scale: str = "bfloat16", *, smooth: bool = False
) -> list[MergeKernelEntry]:
    """Entries, and files that stand for their cubins: the entry itself, and its symbol."""
    found = []
    for phase in PHASES[weight in LEVELS]:
        entry = MergeKernelEntry(
            file=f"{phase}.cubin",
            symbol=f"merge_{phase}",
            phase=phase,
            base=base,
            factors="bfloat16" if base == "int8" else base,
            weight=weight,
            scale=scale if weight in LEVELS else "",
            smooth=smooth,
            threads=128,
            shared=0,
            rows=64,
            columns=128,
            scratch=2,
        )
        image = f"{json.dumps(asdict(entry))}\n{entry.symbol}"
        (folder / entry.file).write_text(image)
        found.append(entry)
    return found


def at(address: int, dtype: str, *shape: int) -> Array:
    """The array that lies at an address."""
    kind = np.dtype(numpy_name(dtype))
    block = (ctypes.c_uint8 * (kind.itemsize * int(np.prod(shape)))).from_address(address)
    return np.ctypeslib.as_array(block).view(kind).reshape(shape)


def by_numpy(experts: int, rank: int, image: bytes, blocks: int, values: tuple[Any, ...]) -> None:
    """What the kernel is to do, as the reference does it."""
    entry = MergeKernelEntry(**json.loads(image.splitlines()[0]))
    base, base_scales, A, B, weights, smooth, levels, scales, space, out, inner, factor = values[
        : -entry.scratch
    ]
    assert values[-entry.scratch :] == (0,) * entry.scratch
    bands = -(-out // entry.rows)
    assert blocks == bands * -(-inner // entry.columns)
    words = at(space, "int32", 1 + bands + out)
    assert not (words[:1] if entry.phase == "levels" else words).any()
    words[0] = blocks
    W = (
        widened(at(base, entry.base, out, inner))
        if entry.base != "int8"
        else (at(base, "int8", out, inner) * at(base_scales, "float32", out)[:, None])
    )
    low, high = at(A, entry.factors, experts, rank, inner), at(B, entry.factors, experts, out, rank)
    merged = merge_weight(W, low, high, at(weights, "float32", experts), factor, "float32")
    if entry.phase == "cast":
        at(levels, entry.weight, out, inner)[...] = narrowed(merged, entry.weight)
        return
    factors = at(smooth, "float32", inner) if entry.smooth else None
    largest = np.abs(merged if factors is None else merged * factors).max(1)
    if entry.phase == "maxima":
        words[1 + bands :] = largest.view(np.int32)
        return
    if entry.phase == "levels":
        np.testing.assert_array_equal(words[1 + bands :], largest.view(np.int32))
    found, steps = quantise_rows(merged, factors, entry.weight, entry.scale)
    at(levels, entry.weight, out, inner)[...] = found
    at(scales, entry.scale, out)[...] = steps


def by_triton(experts: int, rank: int, image: bytes, blocks: int, values: tuple[Any, ...]) -> None:
    """The kernel, in Triton's interpreter, at the same addresses."""
    import torch

    from a2edit.kernels.triton import merge_quantize as merging

    entry = MergeKernelEntry(**json.loads(image.splitlines()[0]))
    *addresses, out, inner, factor = values[: -entry.scratch]
    kinds = (entry.base, "float32", *[entry.factors] * 2, *["float32"] * 2, entry.weight)
    kinds = (*kinds, entry.scale or "float32", "int32")

    def tensor(address: int, kind: str) -> Any:
        bits = torch.from_numpy(at(address, kind, 1))
        return bits if kind == "float8_e4m3fn" else bits.view(getattr(torch, kind))

    constants = merging.constants(
        getattr(merging, entry.phase.upper()),
        experts,
        rank,
        wide=entry.factors == "float32",
        fp8=entry.weight == "float8_e4m3fn",
        smooth=entry.smooth,
    )
    tensors = [tensor(address, kind) for address, kind in zip(addresses, kinds, strict=True)]
    merging.merge_quantize_kernel[(blocks,)](*tensors, out, inner, factor, **constants)

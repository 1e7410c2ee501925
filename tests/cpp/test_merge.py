"""Merging in C++: Python's bytes where numpy's BLAS keeps one sum, and never far from them."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from a2edit.kernels.reference import narrowed, quantise_rows, widened
from a2edit.runtime.engines.base import TensorSpec
from a2edit.runtime.manifest import MergeEntry
from a2edit.runtime.merge import RouteMerger

EXPERTS, RANK, SCALE = 4, 8, 1.5
SHAPES = {"attn.to_q": (0, 128, 96), "ff.0": (1, 160, 128), "ff.2": (1, 7, 13)}  # block, out, in
FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
NAMES = {**FLOATS, "int8": "I8"}
# Of these OpenBLAS computes a sum as C++ does, one fused product after the other.
ONE_SUM = {"SkylakeX", "Cooperlake", "SapphireRapids"}


def source(path: Path, seed: int, dtype: str, smooth: bool, *, eight: bool = False) -> None:
    """`eight`: the base of the linears of block 1 in 8 bits."""
    rng = np.random.default_rng(seed)
    header: dict[str, Any] = {}
    data = b""
    for name, (block, out, inner) in SHAPES.items():
        parts = {"weight": (out, inner), "A": (EXPERTS, RANK, inner), "B": (EXPERTS, out, RANK)}
        arrays = {
            part: (dtype, narrowed(rng.standard_normal(shape).astype(np.float32), dtype))
            for part, shape in parts.items()
        }
        if eight and block == 1:
            levels, scales = quantise_rows(widened(arrays["weight"][1]))
            arrays |= {"weight": ("int8", levels), "base_scale": ("float32", scales)}
        if smooth:
            arrays["smooth"] = "float32", rng.uniform(0.5, 2, inner).astype(np.float32)
        for part, (kind, array) in arrays.items():
            place = [len(data), len(data) + array.nbytes]
            header[f"{name}.{part}"] = {
                "dtype": NAMES[kind],
                "shape": list(array.shape),
                "data_offsets": place,
            }
            data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def specs(dtype: str, scale: str) -> list[TensorSpec]:
    found = []
    for name, (_, out, inner) in SHAPES.items():
        found.append(TensorSpec(f"{name}.weight", dtype, (out, inner)))
        if dtype in ("int8", "float8_e4m3fn"):
            found.append(TensorSpec(f"{name}.scale", scale, (out,)))
    return found


def entry_of(weights: list[TensorSpec], **changes: Any) -> tuple[MergeEntry, str]:
    blocks = {name: block for name, (block, _, _) in SHAPES.items()} | changes
    listed = [[spec.name, spec.dtype, list(spec.shape)] for spec in weights]
    text = json.dumps({"scale": SCALE, "blocks": blocks, "weights": listed})
    return MergeEntry(file="x", scale=SCALE, blocks=blocks), text


def one_sum() -> bool:
    return {info.get("architecture") for info in threadpool_info()} <= ONE_SUM | {None}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    stored=st.sampled_from(list(FLOATS)),
    dtype=st.sampled_from([*NAMES, "float8_e4m3fn"]),
    scale=st.sampled_from(["float32", "bfloat16"]),
    smooth=st.booleans(),
    eight=st.booleans(),
    active=st.floats(0, 1),
)
def test_routes_are_merged_to_the_same_bytes(
    probe: Any,
    tmp_path: Path,
    seed: int,
    stored: str,
    dtype: str,
    scale: str,
    smooth: bool,
    eight: bool,
    active: float,
) -> None:
    path = tmp_path / "merge.safetensors"
    source(path, seed, stored, smooth, eight=eight)
    rng = np.random.default_rng(seed + 1)
    table = (rng.random((2, EXPERTS)) * (rng.random((2, EXPERTS)) < active)).astype(np.float32)
    weights = specs(dtype, scale)
    entry, text = entry_of(weights)
    expected = RouteMerger(path, entry, weights).merge(table, "probe").tensors
    found = probe.answer("merge", path, text, table.size, table)
    assert found.keys() == expected.keys()
    for spec in weights:
        array = expected[spec.name]
        assert found[spec.name][:2] == [spec.dtype, list(spec.shape)]
        if one_sum() or not table.any():
            assert found[spec.name][2] == hashlib.sha256(array.tobytes()).hexdigest(), spec


def test_sums_are_right_on_every_processor(probe: Any) -> None:
    """Against float64, within the rounding of a chain of fused products."""
    rng = np.random.default_rng(5)
    for rows, inner, depth in ((16, 96, 32), (5, 13, 3), (1, 1, 64), (33, 65, 1)):
        high = rng.standard_normal((rows, depth)).astype(np.float32)
        low = rng.standard_normal((depth, inner)).astype(np.float32)
        found = np.empty((rows, inner), np.float32)
        probe("product", high, low, found, rows, inner, depth)
        wide = high.astype(np.float64), low.astype(np.float64)
        bound = depth * np.finfo(np.float32).eps * (np.abs(wide[0]) @ np.abs(wide[1]))
        assert (np.abs(found - wide[0] @ wide[1]) <= bound).all()


@pytest.mark.parametrize("kind", ["weights", "types", "scales", "shapes", "names", "none"])
def test_files_that_do_not_fit_the_graph(
    probe: Any, tmp_path: Path, same_refusal: Any, kind: str
) -> None:
    path = tmp_path / "merge.safetensors"
    source(path, 0, "float32", smooth=False)
    weights, blocks = specs("float32", "float32"), {}
    if kind == "weights":
        weights.append(TensorSpec("surplus.weight", "float32", (2, 2)))
    elif kind == "types":
        weights[0] = TensorSpec("attn.to_q.weight", "int8", (128, 96))
    elif kind == "scales":
        weights = [
            TensorSpec(s.name, "float16" if s.name.endswith("scale") else s.dtype, s.shape)
            for s in specs("int8", "float32")
        ]
    elif kind == "shapes":
        weights[1] = TensorSpec("ff.0.weight", "float32", (160, 64))
    elif kind == "names":
        blocks = {"ff.9": 1}
    else:
        weights = weights[:2]
    entry, text = entry_of(weights, **blocks)
    table = np.zeros((2, EXPERTS), np.float32)
    same_refusal(
        lambda: RouteMerger(path, entry, weights),
        lambda: probe("merge", path, text, table.size, table),
    )


@pytest.mark.parametrize(
    ("was", "instead"),
    [
        (b'"attn.to_q.weight": {"dtype": "F32"', b'"attn.to_q.weight": {"dtype": "I32"'),
        (b'"attn.to_q.A": {"dtype": "F32"', b'"attn.to_q.A": {"dtype": "I32"'),
        (b'"ff.0.base_scale"', b'"ff.0.base_score"'),
        (b'"ff.0.base_scale": {"dtype": "F32"', b'"ff.0.base_scale": {"dtype": "I32"'),
        (b'"ff.0.base_scale": {"dtype": "F32", "shape": [160]',
         b'"ff.0.base_scale": {"dtype": "F32", "shape": [80,2]'),
    ],
)  # fmt: skip
def test_a_file_of_other_types(
    probe: Any, tmp_path: Path, same_refusal: Any, was: bytes, instead: bytes
) -> None:
    path = tmp_path / "merge.safetensors"
    source(path, 0, "float32", smooth=False, eight=True)
    length, data = struct.unpack("<Q", path.read_bytes()[:8])[0], path.read_bytes()[8:]
    text, rest = data[:length], data[length:]
    assert text.count(was) == 1
    text = text.replace(was, instead)
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)
    weights = specs("float32", "float32")
    entry, listed = entry_of(weights)
    same_refusal(
        lambda: RouteMerger(path, entry, weights),
        lambda: probe("merge", path, listed, 8, np.zeros((2, EXPERTS), np.float32)),
    )

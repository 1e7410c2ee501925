"""Merging a whole route from a mapped file: the reference's bytes, for every dtype."""

import json
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from a2edit.kernels.reference import LEVELS, merge_weight, narrowed, quantise_rows, widened
from a2edit.runtime.engines.base import TensorSpec, WeightSet
from a2edit.runtime.errors import BundleError
from a2edit.runtime.manifest import MergeEntry
from a2edit.runtime.merge import MergedLinear, RouteMerger
from a2edit.runtime.tensors import map_tensors
from tests.runtime.played_merge import weights_of

NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}
SHAPES = {"attn.to_q": (0, 12, 10), "ff.0": (1, 16, 12), "ff.2": (1, 12, 16)}  # block, out, in
EXPERTS, RANK, SCALE = 4, 2, 1.5


def write_tensors(path: Path, tensors: Mapping[str, tuple[str, np.ndarray]]) -> None:
    """A safetensors file, bfloat16 from its bits (the library's numpy writer has none)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, array) in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": NAMES[dtype], "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def source(
    path: Path,
    seed: int,
    dtype: str = "float32",
    smooth: Mapping[str, np.ndarray] | None = None,
    eight: Collection[str] = (),
) -> MergeEntry:
    """Experts and base in `dtype`; of the linears in `eight` the base in 8 bits."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, (_, out, inner) in SHAPES.items():
        parts = {"weight": (out, inner), "A": (EXPERTS, RANK, inner), "B": (EXPERTS, out, RANK)}
        for part, shape in parts.items():
            array = rng.standard_normal(shape).astype(np.float32)
            tensors[f"{name}.{part}"] = dtype, narrowed(array, dtype)
        if name in eight:
            levels, scales = quantise_rows(widened(tensors[f"{name}.weight"][1]))
            tensors[f"{name}.weight"] = "int8", levels
            tensors[f"{name}.base_scale"] = "float32", scales
    tensors |= {f"{name}.smooth": ("float32", array) for name, array in (smooth or {}).items()}
    write_tensors(path, tensors)
    blocks = {name: block for name, (block, _, _) in SHAPES.items()}
    return MergeEntry(file=path.name, scale=SCALE, blocks=blocks)


def specs(dtype: str = "float32", scale: str = "float32") -> list[TensorSpec]:
    return weights_of(dtype, scale, SHAPES)


def table(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((2, EXPERTS)) * (rng.random((2, EXPERTS)) > 0.4)).astype(np.float32)


def content(weights: WeightSet) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in weights.tensors.items()}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["float32", "float16", "bfloat16"]),
    st.sampled_from(["float32", "float16", "bfloat16", "int8", "float8_e4m3fn"]),
    st.sampled_from(["float32", "bfloat16"]),
    st.integers(1, 3),
)
def test_a_route_is_the_references_bytes(
    tmp_path: Path, seed: int, stored: str, wanted: str, scale: str, threads: int
) -> None:
    path = tmp_path / "merge.safetensors"
    entry = source(path, seed, stored)
    before = path.read_bytes()
    weights = RouteMerger(path, entry, specs(wanted, scale), threads).merge(table(seed), "mine")
    assert weights.name == "mine"
    assert list(weights.tensors) == [spec.name for spec in specs(wanted)]
    tensors = map_tensors(path).tensors
    for name, (block, *_) in SHAPES.items():
        base, A, B = (widened(tensors[f"{name}.{part}"].array) for part in ("weight", "A", "B"))
        merged = merge_weight(base, A, B, table(seed)[block], SCALE)
        if wanted in LEVELS:
            levels, scales = quantise_rows(merged, None, wanted, scale)
            assert weights.tensors[f"{name}.scale"].tobytes() == scales.tobytes()
            assert weights.tensors[f"{name}.weight"].tobytes() == levels.tobytes()
        else:
            expected = narrowed(merged, wanted)
            assert weights.tensors[f"{name}.weight"].dtype == expected.dtype
            assert weights.tensors[f"{name}.weight"].tobytes() == expected.tobytes()
    assert path.read_bytes() == before


@pytest.mark.parametrize("wanted", ["float32", "bfloat16", "int8", "float8_e4m3fn"])
@pytest.mark.parametrize("kept", [1.0, 0.0])
def test_a_base_in_8_bits_is_merged_as_its_wide_values_are(
    tmp_path: Path, wanted: str, kept: float
) -> None:
    """The bytes of a file that holds level · scale in fp32; one linear has a base of floats."""
    eight = ["attn.to_q", "ff.0"]
    entry = source(tmp_path / "eight", 3, eight=eight)
    before = (tmp_path / "eight").read_bytes()
    tensors = map_tensors(tmp_path / "eight").tensors
    wide = {
        name: (tensor.dtype, tensor.array)
        for name, tensor in tensors.items()
        if not name.endswith("base_scale")
    }
    for name in eight:
        scale = tensors[f"{name}.base_scale"].array
        levels = tensors[f"{name}.weight"].array.astype(np.float32)
        wide[f"{name}.weight"] = "float32", levels * scale[:, None]
    write_tensors(tmp_path / "wide", wide)
    asked = table(3) * np.float32(kept)
    expected = RouteMerger(tmp_path / "wide", entry, specs(wanted)).merge(asked, "r")
    for threads in (1, 3):
        found = RouteMerger(tmp_path / "eight", entry, specs(wanted), threads).merge(asked, "r")
        assert content(found) == content(expected)
    assert (tmp_path / "eight").read_bytes() == before


def test_a_base_in_8_bits_takes_less_memory_by_what_it_is_smaller(tmp_path: Path) -> None:
    plain = RouteMerger(tmp_path / "a", source(tmp_path / "a", 0), specs())
    small = RouteMerger(tmp_path / "b", source(tmp_path / "b", 0, eight=[*SHAPES]), specs())
    smaller = (tmp_path / "a").stat().st_size - (tmp_path / "b").stat().st_size
    assert plain.peak_bytes - small.peak_bytes == smaller > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ff.0.base_scale": None}, r"ff.0.weight is int8, and it has no ff.0.base_scale"),
        (
            {"ff.0.base_scale": ("float32", np.ones(12, np.float32))},
            r"ff.0.base_scale is float32 \[12\]; it must be float32 \[16\]",
        ),
        (
            {"ff.0.base_scale": ("float16", np.ones(16, np.float16))},
            r"ff.0.base_scale is float16 \[16\]; it must be float32 \[16\]",
        ),
        (
            {"ff.0.A": ("int8", np.ones((EXPERTS, RANK, 12), np.int8))},
            r"ff.0.A is int8; it may be float32, float16, bfloat16\)",
        ),
    ],
)
def test_levels_of_the_base_have_a_scale_a_row(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    entry = source(tmp_path / "m", 0, eight=["ff.0"])
    held = {name: (it.dtype, it.array) for name, it in map_tensors(tmp_path / "m").tensors.items()}
    write_tensors(tmp_path / "n", {k: v for k, v in (held | change).items() if v})
    with pytest.raises(BundleError, match=message):
        RouteMerger(tmp_path / "n", entry, specs())


def test_linear_by_linear_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m"
    merger = RouteMerger(path, source(path, 3), specs("float8_e4m3fn", "bfloat16"), threads=2)
    parts = list(merger.each(table(3)))
    assert [[*part] for part in parts] == [[f"{name}.weight", f"{name}.scale"] for name in SHAPES]
    joined = WeightSet("r", {key: array for part in parts for key, array in part.items()})
    assert content(joined) == content(merger.merge(table(3), "r"))


def test_no_linear_is_merged_long_before_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    merge = MergedLinear.merged

    def counted(linear: MergedLinear, *rest: Any) -> dict[str, np.ndarray]:
        begun.append(linear.name)
        return merge(linear, *rest)

    monkeypatch.setattr(MergedLinear, "merged", counted)
    parts = RouteMerger(tmp_path / "m", source(tmp_path / "m", 0), specs(), threads=1).each(
        table(3)
    )
    assert list(next(parts)) == ["attn.to_q.weight"]
    assert begun == ["attn.to_q"]


def test_an_fp8_weight_takes_no_factors_of_int8s(tmp_path: Path) -> None:
    plain = RouteMerger(tmp_path / "a", source(tmp_path / "a", 3), specs("float8_e4m3fn"))
    factors = {"ff.0": np.geomspace(0.1, 9, 12).astype(np.float32)}
    entry = source(tmp_path / "b", 3, smooth=factors)
    beside = RouteMerger(tmp_path / "b", entry, specs("float8_e4m3fn"))
    assert content(beside.merge(table(3), "r")) == content(plain.merge(table(3), "r"))


def test_an_int8_weight_is_smoothed_before_it_is_quantised(tmp_path: Path) -> None:
    path = tmp_path / "m"
    entry = source(path, 3, smooth={"ff.0": np.geomspace(0.1, 9, 12).astype(np.float32)})
    plain = RouteMerger(path, entry, specs()).merge(table(3), "r").tensors
    found = RouteMerger(path, entry, specs("int8")).merge(table(3), "r").tensors
    for name in SHAPES:
        factors = np.geomspace(0.1, 9, 12).astype(np.float32) if name == "ff.0" else None
        levels, scales = quantise_rows(plain[f"{name}.weight"], factors)
        assert found[f"{name}.weight"].tobytes() == levels.tobytes()
        assert found[f"{name}.scale"].tobytes() == scales.tobytes()


def test_factors_of_another_width_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    entry = source(path, 3, smooth={"ff.0": np.ones(11, np.float32)})
    RouteMerger(path, entry, specs())  # fp32 has no use for them
    with pytest.raises(BundleError, match=r"ff.0.smooth is float32 \[11\]; it must be .* \[12\]"):
        RouteMerger(path, entry, specs("int8"))


def test_a_thousand_merges_never_leave_the_base(tmp_path: Path) -> None:
    entry = source(tmp_path / "m", 0, "float16")
    merger = RouteMerger(tmp_path / "m", entry, specs(), threads=2)
    first = [content(merger.merge(table(seed), "r")) for seed in range(5)]
    rng = np.random.default_rng(1)
    for seed in rng.integers(0, 5, 1000).tolist():
        assert content(merger.merge(table(seed), "r")) == first[seed]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_of_blas_change_no_byte(tmp_path: Path, threads: int) -> None:
    merger = RouteMerger(tmp_path / "m", source(tmp_path / "m", 0), specs())
    expected = content(merger.merge(table(3), "r"))
    with threadpool_limits(threads):
        assert content(merger.merge(table(3), "r")) == expected


def test_the_weights_are_writable_and_nobody_elses(tmp_path: Path) -> None:
    merger = RouteMerger(tmp_path / "m", source(tmp_path / "m", 0), specs())
    zeros = np.zeros((2, EXPERTS), np.float32)
    first, again = merger.merge(zeros, "r"), merger.merge(zeros, "r")
    expected = content(again)
    for array in first.tensors.values():
        array[:] = 0
    assert content(again) == content(merger.merge(zeros, "r")) == expected
    assert merger.nbytes == first.nbytes
    assert merger.shape == (2, EXPERTS)
    with pytest.raises(ValueError, match=r"a table is \[2, 4\], got \[2, 3\]"):
        merger.merge(zeros[:, :3], "r")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def retype(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"', 1))


def move(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"[0, 480]", b"[9, 480]", 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "no sound safetensors file"),
        (move, "no sound safetensors file"),
        (retype, r"attn.to_q.weight is int32; it may be float32, float16, bfloat16, int8"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"12"), "no sound safetensors file"),
        (lambda path: path.write_bytes(b"\xff" * 90), "no sound safetensors file"),
        (lambda path: path.write_bytes(b"\x02" + b"\0" * 7 + b"[]"), "no sound safetensors file"),
        (lambda path: write_tensors(path, {}), "it has no attn.to_q.weight"),
        (Path.unlink, "cannot be read"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, damage: Any, message: str) -> None:
    path = tmp_path / "merge.safetensors"
    entry = source(path, 0)
    damage(path)
    with pytest.raises(BundleError, match=message) as caught:
        RouteMerger(path, entry, specs())
    assert "merge.safetensors" in str(caught.value)


def test_a_file_for_another_graph_is_refused(tmp_path: Path) -> None:
    entry = source(tmp_path / "m", 0)
    for weights, message in (
        (specs()[1:], "the graph takes no attn.to_q.weight"),
        (specs("int8")[:1] + specs("int8")[2:], "the graph takes no attn.to_q.scale"),
        (specs("int8", "float16"), r"attn.to_q.scale float16\[12\]; beside .* float32 or bfloat16"),
        ([*specs(), TensorSpec("more", "float32", (1,))], "the graph takes more, of which"),
        (
            [TensorSpec("attn.to_q.weight", "float32", (10, 12)), *specs()[1:]],
            r"attn.to_q has \[12, 10\], \[4, 2, 10\], \[4, 12, 2\] as weight, A and B; the graph",
        ),
    ):
        with pytest.raises(BundleError, match=message):
            RouteMerger(tmp_path / "m", entry, weights)


def test_a_mapping_of_ones_own_can_be_written_to(tmp_path: Path) -> None:
    path = tmp_path / "m"
    source(path, 0, "bfloat16")
    before = path.read_bytes()
    array = map_tensors(path, writable=True).tensors["ff.0.A"].array
    array[:] = 7
    assert path.read_bytes() == before
    tensor = map_tensors(path).tensors["ff.0.A"]
    assert tensor.dtype == "bfloat16"
    assert not (tensor.array == 7).any()
    assert not tensor.array.flags.writeable


def test_a_set_at_rest_comes_back_as_it_was(tmp_path: Path) -> None:
    """Its pages are given to the system, and read from the file again."""
    path = tmp_path / "m"
    source(path, 0, "float32")
    mapped = map_tensors(path, writable=True)
    arrays = {name: tensor.array for name, tensor in mapped.tensors.items()}
    before = {name: array.tobytes() for name, array in arrays.items()}
    WeightSet("mapped", arrays, mapped.memory).rest()
    assert {name: array.tobytes() for name, array in arrays.items()} == before
    own = WeightSet("merged", {"w": np.ones(3, np.float32)})
    own.rest()
    assert own.tensors["w"].tolist() == [1, 1, 1]

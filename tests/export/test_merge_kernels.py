"""Cubins that merge routes: what a bundle's linears need, and what is compiled for a GPU."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2edit.calibration.policy import GraphPolicy
from a2edit.export.chain import Chain, Made, Silent
from a2edit.export.compile import merge_kernels
from a2edit.export.compile.merge_kernels import (
    MergeTypes,
    MergeWork,
    merge_work,
    read_merge_kernels,
    save_merge_kernels,
)
from a2edit.export.files import write_json
from a2edit.export.settings import BuildSettings
from a2edit.export.steps.keyed import Steps
from a2edit.export.steps.merge import MERGE_FILE
from a2edit.export.targets import TargetPlan
from a2edit.export.weights import TensorFile
from a2edit.runtime.engines.base import Array, TensorSpec
from a2edit.runtime.engines.cuda import Stream, bytes_in_use, capability
from a2edit.runtime.errors import EngineError
from a2edit.runtime.manifest import MergeEntry
from a2edit.runtime.merge import RouteMerger
from a2edit.runtime.merge_device import DeviceMerger
from a2edit.runtime.targets import TARGETS, target_of
from tests.runtime.played_merge import CASES, TABLE, weights_of, write_source

if sys.platform != "linux":
    pytest.skip("Triton comes for Linux only", allow_module_level=True)

OUT, INNER, EXPERTS, RANK = 32, 48, 3, 2
ARRAYS: dict[str, Any] = {"float32": "f4", "float16": "f2", "bfloat16": "u2", "int8": "i1"}


def spec(name: str, dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, dtype, shape)


def source(
    folder: Path, base: str = "float16", smooth: bool = False, **changes: tuple[int, ...] | str
) -> tuple[Path, MergeEntry]:
    """A merge.safetensors of two linears, "one" and "two"; `changes` are of two's A and B."""
    specs = []
    for name in ("one", "two"):
        own = changes if name == "two" else {}
        rank: Any = own.get("rank", RANK)
        specs.append(spec(f"{name}.weight", base, OUT, own.get("inner", INNER)))  # type: ignore[arg-type]
        specs.append(spec(f"{name}.A", "float16", EXPERTS, rank, own.get("inner", INNER)))  # type: ignore[arg-type]
        specs.append(spec(f"{name}.B", str(own.get("B", "float16")), EXPERTS, OUT, rank))
        if base == "int8":
            specs.append(spec(f"{name}.base_scale", "float32", OUT))
    if smooth:
        specs.append(spec("one.smooth", "float32", INNER))
    arrays: Mapping[str, Array] = {it.name: np.zeros(it.shape, ARRAYS[it.dtype]) for it in specs}
    with TensorFile(folder / MERGE_FILE, specs) as file:
        for name, array in arrays.items():
            file.write(name, array)
    content = {"scale": 2.0, "blocks": {"one": 0, "two": 1}}
    write_json(folder / "merge.json", content)
    return folder / MERGE_FILE, MergeEntry(file=MERGE_FILE, scale=2.0, blocks={"one": 0, "two": 1})


def weights(one: str, two: str = "bfloat16") -> list[TensorSpec]:
    """What a graph takes: a weight of 8 bits comes with bfloat16 scales."""
    found = []
    for name, dtype in (("one", one), ("two", two)):
        found.append(spec(f"{name}.weight", dtype, OUT, INNER))
        if dtype in {"int8", "float8_e4m3fn"}:
            found.append(spec(f"{name}.scale", "bfloat16", OUT))
    return found


CAST = MergeTypes("float16", "float16", "bfloat16", "", smooth=False)
INT8 = MergeTypes("float16", "float16", "int8", "bfloat16", smooth=True)
FP8 = MergeTypes("int8", "float16", "float8_e4m3fn", "bfloat16", smooth=False)


@pytest.mark.parametrize(
    ("base", "smooth", "graph", "types"),
    [
        ("float16", False, weights("bfloat16"), {CAST}),
        ("float16", True, weights("int8"), {INT8, CAST}),
        # factors are int8's; a bundle may hold them for another target
        ("int8", True, weights("float8_e4m3fn", "float8_e4m3fn"), {FP8}),
        ("float16", True, weights("int8", "int8"), {INT8, replace(INT8, smooth=False)}),
    ],
)
def test_a_graphs_linears_say_what_is_compiled(
    tmp_path: Path, base: str, smooth: bool, graph: list[TensorSpec], types: set[MergeTypes]
) -> None:
    work = merge_work(*source(tmp_path, base, smooth), graph)
    assert work == MergeWork(tuple(sorted(types)), EXPERTS, RANK, sixteens=True)


def test_kernels_count_on_sixteens_only_where_every_side_has_them(tmp_path: Path) -> None:
    assert not merge_work(*source(tmp_path, inner=40), weights("bfloat16")).sixteens  # type: ignore[arg-type]


def dumped(file: Path) -> str:
    """What the cuobjdump that Triton brings says of a cubin."""
    import triton

    command = [triton.knobs.nvidia.cuobjdump.path, "-elf", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", ["sm86", "sm120"])
def test_cubins_are_for_their_gpu_and_repeat(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = MergeWork((FP8, CAST), 8, 32, sixteens=target == "sm86")
    folders = tmp_path / "one", tmp_path / "another/of a longer name"
    for folder in folders:
        folder.mkdir(parents=True)
        save_merge_kernels(folder, TARGETS[target], work)
        # a user's own settings of Triton are none of a build's
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        monkeypatch.setenv("DISABLE_PTXAS_OPT", "1")
    first, again = ({path.name: path.read_bytes() for path in it.iterdir()} for it in folders)
    assert first == again
    entries = read_merge_kernels(folders[0], "engines/some")
    assert {(MergeTypes(*_types(entry)), entry.phase) for entry in entries} == {
        (FP8, "one_pass"),
        (FP8, "maxima"),
        (FP8, "levels"),
        (CAST, "cast"),
    }
    assert len({entry.file for entry in entries}) == len(entries) == len(first) - 1
    for entry in entries:
        place, _, name = entry.file.rpartition("/")
        assert place == "engines/some"
        assert (entry.threads, entry.rows, entry.columns) == (128, 64, 128)
        assert entry.shared <= 48 * 1024
        said = dumped(folders[0] / name)
        assert re.search(rf"\bsm={target[2:]}a?,", said), said[:300]
        assert f".text.{entry.symbol}" in said
        assert said.count("EIATTR_KPARAM_INFO") == 12 + entry.scratch
        for path in (sys.prefix, str(Path(merge_kernels.__file__).parents[2]), str(tmp_path)):
            assert path.encode() not in first[name]
        assert b".py" not in first[name]


def _types(entry: Any) -> tuple[str, str, str, str, bool]:
    return entry.base, entry.factors, entry.weight, entry.scale, entry.smooth


def test_arguments_that_are_not_known_are_refused() -> None:
    own = ", ".join(f".param .{kind} it" for kind in ["u64"] * 9 + ["u32", "u32", "f32"])
    assert merge_kernels._hidden(f".visible .entry merge(\n{own}\n)") == 0
    assert merge_kernels._hidden(f".entry merge({own}, .param .u64 .ptr .global it)") == 1
    for other in (f"{own}, .param .u32 it", own.replace("f32", "f64"), own[12:], ""):
        with pytest.raises(SystemExit, match="it takes"):
            merge_kernels._hidden(f".visible .entry merge({other})")


def test_what_triton_refuses_is_said(tmp_path: Path) -> None:
    work = MergeWork((CAST,), 8, 32, sixteens=True)
    ancient = replace(TARGETS["sm80"], name="sm10", capability=(1, 0))
    with pytest.raises(EngineError, match=r"triton .* cannot compile merge_quantize for sm10: \w"):
        save_merge_kernels(tmp_path, ancient, work)


class Noted(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def step(folder: Path, target: str, *, carried: bool = True) -> tuple[Made | None, list[str]]:
    """The step of a build to int8 and bfloat16, and what it says."""
    noted = Noted()
    settings = BuildSettings(model="tiny", out=folder / "out")
    chain = Chain(folder / "steps", noted)
    chain.open()
    edge: dict[str, Any] = {"inputs": [], "outputs": [], "parameters": [], "activations": 0}
    edge["weights"] = [
        {"name": it.name, "dtype": it.dtype, "shape": it.shape} for it in weights("int8")
    ]
    write_json(folder / "graph.json", edge)
    policies: dict[str, GraphPolicy] = {}
    plan = TargetPlan(target=TARGETS[target], backend="tensorrt", policies=policies)
    try:
        here = Made(folder, "key")
        steps = Steps(settings, None, chain)  # type: ignore[arg-type] # nothing of it is read
        return steps.merge_kernels(plan, here if carried else None, here), noted.notes
    finally:
        chain.close()


@pytest.mark.gpu
@pytest.mark.parametrize(("stored", "wanted", "smooth"), CASES)
def test_a_gpu_merges_what_a_processor_does(
    tmp_path: Path, stored: str, wanted: str, smooth: bool
) -> None:
    """Compiled, loaded, launched and read back; sums of whole numbers are exact in any order."""
    entry = write_source(tmp_path / MERGE_FILE, stored, smooth=smooth)
    weights = weights_of(wanted)
    (tmp_path / "kernels").mkdir()
    work = merge_work(tmp_path / MERGE_FILE, entry, weights)
    save_merge_kernels(tmp_path / "kernels", target_of(capability()), work)
    kernels = read_merge_kernels(tmp_path / "kernels", "kernels")
    merger = RouteMerger(tmp_path / MERGE_FILE, entry, weights)
    before, stream = bytes_in_use(), Stream()
    device = DeviceMerger(merger, weights, kernels, tmp_path)
    for table in (TABLE, TABLE[:, ::-1], TABLE):
        merged, expected = device.merge(table, "mine"), merger.merge(table, "mine").tensors
        for name, tensor in merged.placed.items():
            array = np.empty_like(expected[name])
            stream.download(tensor, array)
            stream.wait()
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
    del merged, tensor
    device.close()
    assert bytes_in_use() <= before + 2**26  # a library's code stays with the context


def test_a_processor_needs_none(tmp_path: Path) -> None:
    source(tmp_path)
    assert step(tmp_path, "cpu") == (None, [])
    assert step(tmp_path, "sm80", carried=False) == (None, [])


def test_where_none_can_be_compiled_the_build_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(tmp_path)
    said = "will merge routes on the processor: "
    _, notes = step(tmp_path, "sm75")
    assert notes == [f"sm75 {said}Triton does not compile for sm75"]
    source(tmp_path, B="bfloat16")
    assert step(tmp_path, "sm80") == (
        None,
        [f"sm80 {said}the experts of two are float16 in A and bfloat16 in B"],
    )
    source(tmp_path, rank=4)  # type: ignore[arg-type]
    assert step(tmp_path, "sm80")[1] == [
        f"sm80 {said}its linears have experts of several ranks (2 × 3, 4 × 3)"
    ]
    monkeypatch.setattr(merge_kernels, "triton_version", lambda: None)
    found, notes = step(tmp_path, "sm80")
    assert found is None
    assert notes == [
        f"sm80 {said}Triton is not installed; `pip install 'a2edit[kernels]'` and build again"
    ]

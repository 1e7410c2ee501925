"""Merging on a GPU, on a CUDA of host memory: what is launched with what, and who has the memory.

A kernel's work is done by numpy here, and in a process of its own by the Triton kernel itself, in
its interpreter.
"""

import ctypes
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from a2edit.runtime.engines import kernel
from a2edit.runtime.engines.base import DeviceTensor, TensorSpec, WeightSet
from a2edit.runtime.errors import DeviceMemoryError, EngineError
from a2edit.runtime.manifest import MergeEntry
from a2edit.runtime.merge import RouteMerger
from a2edit.runtime.merge_device import DeviceMerger, merges_all, resident_bytes
from a2edit.runtime.merge_kernels import MergeKernelEntry
from tests.processes import run_tests
from tests.runtime.host_cuda import HostCuda, HostDriver
from tests.runtime.played_merge import (
    CASES,
    EXPERTS,
    RANK,
    TABLE,
    by_numpy,
    by_triton,
    kernels_of,
    weights_of,
    write_source,
)

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture
def driver(host: HostCuda, monkeypatch: pytest.MonkeyPatch) -> HostDriver:
    driver = HostDriver(host, partial(by_triton if INTERPRETED else by_numpy, EXPERTS, RANK))
    monkeypatch.setattr(kernel, "_driver", lambda: driver)
    return driver


def fetched(weights: WeightSet) -> dict[str, bytes]:
    return {
        name: ctypes.string_at(tensor.address, tensor.nbytes)
        for name, tensor in weights.placed.items()
    }


def opened(
    folder: Path,
    entry: MergeEntry,
    weights: Sequence[TensorSpec],
    kernels: Sequence[MergeKernelEntry],
) -> DeviceMerger:
    merger = RouteMerger(folder / entry.file, entry, weights)
    return DeviceMerger(merger, weights, kernels, folder)


@pytest.mark.parametrize(("stored", "wanted", "smooth"), CASES)
@pytest.mark.usefixtures("driver")
def test_a_route_is_the_processors_bytes(
    host: HostCuda, tmp_path: Path, stored: str, wanted: str, smooth: bool
) -> None:
    entry = write_source(tmp_path / "merge.safetensors", stored, smooth=smooth)
    weights = weights_of(wanted)
    kernels = kernels_of(tmp_path, stored, wanted, smooth=smooth)
    merger = RouteMerger(tmp_path / entry.file, entry, weights)
    room = host.room
    device = DeviceMerger(merger, weights, kernels, tmp_path)
    assert room - host.room == device.nbytes == resident_bytes(merger, kernels)
    for table in (TABLE, TABLE[:, ::-1]):
        found, expected = device.merge(table, "mine"), merger.merge(table, "mine")
        assert (found.name, found.nbytes) == ("mine", expected.nbytes)
        assert list(found.placed) == [spec.name for spec in weights]
        assert fetched(found) == {name: it.tobytes() for name, it in expected.tensors.items()}
    del found
    device.close()
    assert not host.blocks


@pytest.mark.skipif(INTERPRETED, reason="tiles that wait for each other need to run at once")
def test_a_row_is_read_once_where_its_tiles_run_at_once(
    host: HostCuda, driver: HostDriver, tmp_path: Path
) -> None:
    """b has three tiles a row: more than one multiprocessor holds, and a's single one fits."""
    entry = write_source(tmp_path / "merge.safetensors")
    host.multiprocessors = 1
    device = opened(tmp_path, entry, weights_of("int8"), kernels_of(tmp_path, "bfloat16", "int8"))
    device.merge(TABLE, "mine")
    phases = [json.loads(image.splitlines()[0])["phase"] for image in driver.launched]
    assert phases == ["one_pass", "maxima", "levels"]


def test_sets_live_as_long_as_they_are_used(
    host: HostCuda, driver: HostDriver, tmp_path: Path
) -> None:
    entry = write_source(tmp_path / "merge.safetensors")
    device = opened(
        tmp_path, entry, weights_of("bfloat16"), kernels_of(tmp_path, "bfloat16", "bfloat16")
    )
    own = len(host.blocks)
    one, two = device.merge(TABLE, "one"), device.merge(TABLE[:, ::-1], "two")
    assert len(host.blocks) == own + 2
    before = fetched(one)
    tensor: DeviceTensor = two.placed["a.weight"]
    del two
    assert len(host.blocks) == own + 2
    interface = tensor.__cuda_array_interface__
    assert interface["data"] == (tensor.address, False)
    assert (interface["shape"], interface["typestr"]) == ((70, 48), "<u2")
    del tensor
    assert len(host.blocks) == own + 1
    device.close()
    assert not driver.images
    assert fetched(one) == before
    assert len(host.blocks) == 1


@pytest.mark.usefixtures("driver")
def test_a_full_gpu_is_said_and_leaves_nothing_behind(host: HostCuda, tmp_path: Path) -> None:
    entry, weights = write_source(tmp_path / "merge.safetensors"), weights_of("int8")
    make = partial(opened, tmp_path, entry, weights, kernels_of(tmp_path, "bfloat16", "int8"))
    room = host.room
    device = make()
    host.room = 100
    with pytest.raises(DeviceMemoryError, match="the GPU's memory is full"):
        device.merge(TABLE, "mine")
    host.room = room - device.nbytes
    device.close()
    host.room = 40_000  # the base alone does not fit
    with pytest.raises(DeviceMemoryError) as kept:  # with it all frames are kept
        make()
    assert not host.blocks
    assert kept.traceback


@pytest.mark.usefixtures("driver")
def test_a_kernel_that_does_not_load_is_named(host: HostCuda, tmp_path: Path) -> None:
    entry, weights = write_source(tmp_path / "merge.safetensors"), weights_of("int8")
    kernels = kernels_of(tmp_path, "bfloat16", "int8")
    (tmp_path / "levels.cubin").write_text("another")
    with pytest.raises(EngineError, match=r"levels.cubin' cannot be loaded.*NOT_FOUND"):
        opened(tmp_path, entry, weights, kernels)
    (tmp_path / "levels.cubin").write_bytes(b"")
    host.room = 0  # what does not load is said before what does not fit
    with pytest.raises(EngineError, match=r"newer driver.*NO_BINARY_FOR_GPU"):
        opened(tmp_path, entry, weights, kernels)
    (tmp_path / "levels.cubin").unlink()
    with pytest.raises(EngineError, match="No such file"):
        opened(tmp_path, entry, weights, kernels)


@pytest.mark.usefixtures("host", "driver")
def test_a_table_has_a_row_a_block(tmp_path: Path) -> None:
    entry, weights = write_source(tmp_path / "merge.safetensors"), weights_of("int8")
    device = opened(tmp_path, entry, weights, kernels_of(tmp_path, "bfloat16", "int8"))
    for wrong in (TABLE[:1], TABLE[:, :2], TABLE[0]):
        with pytest.raises(ValueError, match=r"a table is \[2, 3\]"):
            device.merge(wrong, "mine")


def test_kernels_must_be_there_for_every_linear(tmp_path: Path) -> None:
    entry = write_source(tmp_path / "merge.safetensors")
    for wanted in ("int8", "bfloat16"):
        merger = RouteMerger(tmp_path / entry.file, entry, weights_of(wanted))
        kernels = kernels_of(tmp_path, "bfloat16", wanted)
        assert merges_all(merger, kernels)
        assert not merges_all(merger, kernels[:-1])
        assert not merges_all(merger, kernels_of(tmp_path, "float16", wanted))
    assert not merges_all(merger, kernels_of(tmp_path, "bfloat16", "int8"))
    of_one_type = merger.linears
    mixed = replace(of_one_type[0], B=of_one_type[0].B.astype("float16"))
    merger.linears = [mixed, *of_one_type[1:]]
    assert not merges_all(merger, kernels)
    merger = RouteMerger(tmp_path / entry.file, entry, weights_of("int8", "float32"))
    assert not merges_all(merger, kernels_of(tmp_path, "bfloat16", "int8"))
    assert not merges_all(merger, kernels_of(tmp_path, "bfloat16", "int8", "float32", smooth=True))


@pytest.mark.skipif(INTERPRETED, reason="this is that process")
@pytest.mark.skipif(sys.platform != "linux", reason="Triton comes for Linux only")
def test_the_kernel_itself_is_launched_right() -> None:
    run_tests(Path(__file__), {"TRITON_INTERPRET": "1"}, r"\d\d passed, 2 skipped")

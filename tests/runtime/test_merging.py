"""Merging inside an editor, on a GPU of host memory: who merges, and what memory does to it."""

import ctypes
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines import kernel
from a2edit.runtime.engines.base import Array, DeviceTensor, Engine, WeightSet, numpy_name
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.engines.recording import RecordingEngine
from a2edit.runtime.manifest import read_manifest
from a2edit.runtime.memory.ledger import Ledger
from a2edit.runtime.memory.plans import Keep, ladder, peak
from a2edit.runtime.merging import BASE, Merging
from a2edit.runtime.request import EditRequest
from tests.runtime.closed_form import BLOCKS, EXPERTS
from tests.runtime.conftest import seal
from tests.runtime.host_cuda import HostCuda, HostDriver
from tests.runtime.played_merge import by_numpy, kernels_of

RANK = 64


class FarEngine(RecordingEngine):
    """Reads weights that were merged on the GPU from its memory."""

    def _bind_placed(
        self, parameters: Mapping[str, Array], weights: Mapping[str, DeviceTensor]
    ) -> None:
        arrays = {
            name: np.frombuffer(
                ctypes.string_at(it.address, it.nbytes), numpy_name(it.dtype)
            ).reshape(it.shape)
            for name, it in weights.items()
        }
        self._bind({**parameters, **arrays})


class FarPool(EnginePool):
    """Its denoiser takes weights wherever they lie."""

    far: FarEngine | None = None
    near: Engine | None = None  # that `far` runs

    def get(self, name: str) -> FarEngine:
        inner = super().get(name)
        if name != "dit":
            return inner  # type: ignore[return-value] # as good as one
        if self.far is None or self.near is not inner:
            self.near = inner

            def compute(
                inputs: Mapping[str, Array], weights: Mapping[str, Array]
            ) -> dict[str, Array]:
                near = {key: np.array(array) for key, array in weights.items()}
                inner.bind(WeightSet("near", near))
                return inner.run(inputs)

            self.far = FarEngine(inner.spec, compute)
        return self.far

    def release(self, weights: WeightSet) -> None:
        if self.far is not None and weights is self.bound:
            self.far.unbind()
        super().release(weights)

    def close(self) -> None:
        if self.far is not None:
            self.far.close()
        super().close()


@pytest.fixture(autouse=True)
def driver(host: HostCuda, monkeypatch: pytest.MonkeyPatch) -> HostDriver:
    played = HostDriver(host, partial(by_numpy, EXPERTS, RANK))
    monkeypatch.setattr(kernel, "_driver", lambda: played)
    return played


@pytest.fixture
def opened(own_bundle: Path) -> Bundle:
    """A bundle with kernels for the target that there is here."""
    file = own_bundle / "weights/merge.safetensors"
    save_file({name: it.astype(np.float32) for name, it in load_file(file).items()}, file)
    kernels = tuple(kernels_of(own_bundle, "float32", "float32"))
    seal(own_bundle, replace(read_manifest(own_bundle), merge_kernels={"cpu": kernels}))
    return open_bundle(own_bundle)


def request(pictures: Path, colour: str = "plum") -> EditRequest:
    return EditRequest(
        image=pictures / "scene.png",
        mask=pictures / "mask.png",
        reference=pictures / f"{colour}.png",
        prompt=f"a {colour} chair",
        steps=2,
    )


@pytest.fixture
def expected(opened: Bundle, pictures: Path) -> bytes:
    plain = Bundle(opened.folder, replace(opened.manifest, merge_kernels={}))
    with Editor(plain, EnginePool(plain)) as editor:
        result = editor.edit(request(pictures))
        assert result.supply == "merged"
        assert not any(plan.base for plan in ladder(editor.engines.load()))
        return result.image.tobytes()


def test_an_editor_merges_on_the_gpu(
    host: HostCuda, opened: Bundle, pictures: Path, expected: bytes
) -> None:
    with Editor(opened, FarPool(opened)) as editor:
        assert editor.memory.plan.base
        editor.edit(request(pictures, "red"))  # a route of the bundle
        assert not host.blocks
        assert editor.edit(request(pictures)).image.tobytes() == expected
        held = editor.engines.ledger.held[BASE]
        assert held == editor.engines.load().base
        merged = editor.engines.bound
        assert merged is not None
        assert merged.placed
        assert 10**6 - host.room == held + merged.nbytes
        uploads = host.uploads
        del merged
        editor.edit(request(pictures, "green"))
        assert editor.edit(request(pictures)).image.tobytes() == expected
        assert host.uploads == uploads  # the set is still there
    assert not host.blocks


def test_a_base_that_does_not_fit_is_said_and_the_processor_merges(
    host: HostCuda, opened: Bundle, pictures: Path, expected: bytes
) -> None:
    host.room = 1000
    with Editor(opened, FarPool(opened)) as editor:
        assert editor.edit(request(pictures)).image.tobytes() == expected
        assert not editor.memory.plan.base
        said = editor.memory.said
        assert all(line.startswith("memory ran out to route (") for line in said)
        assert [line.endswith("the GPU that merges") for line in said][-1] is False
        assert not host.blocks
    assert not host.blocks


def test_a_budget_says_whether_the_base_stays(
    host: HostCuda, opened: Bundle, pictures: Path, expected: bytes
) -> None:
    """It stays with the first plan; with the last that has it, the set that was merged is left."""
    plans = [plan for plan in ladder(FarPool(opened).load()) if plan.base]
    for plan, stays in ((plans[0], True), (plans[-1], False)):
        pool = FarPool(opened)
        with Editor(opened, pool, memory_budget=peak(pool.load(), plan)) as editor:
            assert editor.memory.plan == plan
            for _ in range(2):
                assert editor.edit(request(pictures)).image.tobytes() == expected
            assert (BASE in pool.ledger.held) is stays
            assert len(host.blocks) == (4 if stays else 1)
    assert not host.blocks


def test_kernels_that_do_not_load_are_left_out_with_a_warning(
    host: HostCuda,
    opened: Bundle,
    pictures: Path,
    expected: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (kernel_of,) = opened.manifest.merge_kernels["cpu"]
    opened.path(kernel_of.file).write_bytes(b"")
    with (
        caplog.at_level(logging.WARNING),
        Editor(opened, FarPool(opened)) as editor,
    ):
        for _ in range(2):
            assert editor.edit(request(pictures)).image.tobytes() == expected
            editor.routes.clear()
        assert editor.engines.load().base == 0
        assert "GPU" not in str(editor.memory)
        assert not host.blocks
    (record,) = caplog.records
    assert "routes are merged on the processor: kernel" in record.message
    assert "newer driver" in record.message


def test_kernels_that_do_not_load_under_the_smallest_plan(
    opened: Bundle, pictures: Path, expected: bytes
) -> None:
    (kernel_of,) = opened.manifest.merge_kernels["cpu"]
    opened.path(kernel_of.file).write_bytes(b"")
    with Editor(opened, FarPool(opened)) as editor:
        least = [plan for plan in ladder(editor.engines.load()) if plan.base][-1]
        editor.memory._follow(least)
        for _ in range(2):
            assert editor.edit(request(pictures)).image.tobytes() == expected
        assert editor.memory.plan.keep in {least.keep, Keep.ONE_STAGE}
        assert not editor.memory.plan.base


def test_a_full_gpu_drops_what_was_merged_before(
    host: HostCuda, opened: Bundle, pictures: Path, expected: bytes
) -> None:
    """Nearly every request has a table of its own: sets leave one by one, and no plan changes."""
    pool = FarPool(opened)
    with Editor(opened, pool) as editor:
        plan = editor.memory.plan
        host.room = pool.load().base + 3 * pool.load().set_bytes // 2
        for prompt in ("a plum", "a fig", "a plum chair"):
            result = editor.edit(replace(request(pictures), prompt=prompt))
            assert result.supply == "merged"
            assert len(host.blocks) == 4
        assert editor.edit(request(pictures)).image.tobytes() == expected
        assert (editor.memory.plan, editor.memory.said) == (plan, [])


def test_a_plan_without_the_base_keeps_no_set_on_the_gpu(
    host: HostCuda, opened: Bundle, pictures: Path, expected: bytes
) -> None:
    pool = FarPool(opened)
    with Editor(opened, pool) as editor:
        editor.edit(request(pictures))
        assert host.blocks
        editor.memory._follow(ladder(pool.load())[-1])
        assert editor.edit(request(pictures)).image.tobytes() == expected
        assert not host.blocks


def test_nobody_closes_what_merges(host: HostCuda, driver: HostDriver, opened: Bundle) -> None:
    merging, ledger = Merging(opened, "fp32", "cpu"), Ledger()
    begun, go_on, play = Event(), Event(), driver.play

    def slowly(image: bytes, blocks: int, values: tuple[Any, ...]) -> None:
        begun.set()
        assert go_on.wait(10)
        play(image, blocks, values)

    driver.play = slowly
    table = np.ones((BLOCKS, EXPERTS), np.float32)
    with ThreadPoolExecutor() as threads:
        made = threads.submit(lambda: merging.merge(table, "one", ledger, on_gpu=True))
        assert begun.wait(10)
        left = threads.submit(lambda: merging.leave_gpu(ledger))
        assert len(host.blocks) == 4
        assert not left.done()
        go_on.set()
        assert made.result().placed
        left.result()
    assert len(host.blocks) == 1

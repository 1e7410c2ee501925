"""Plans followed by real engines, budgets, and what happens where memory runs out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.cli import main
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines.base import CheckedEngine
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.errors import DeviceMemoryError, RequestError
from a2edit.runtime.memory.ledger import Ledger
from a2edit.runtime.memory.plans import Keep, MemoryPlan, ladder, peak, peaks
from a2edit.runtime.request import EditRequest, EditResult

COLOURS = ("red", "plum", "green", "blue", "red")
ENCODERS = ("vae_encoder", "image_encoder", "text_encoder", "pooled_encoder")
GRAPHS = (*ENCODERS, "gate", "modulation", "dit")


def requests(pictures: Path) -> list[EditRequest]:
    files: dict[str, Any] = {name: pictures / f"{name}.png" for name in ("image", "mask")}
    files["image"] = pictures / "scene.png"
    return [
        EditRequest(**files, reference=pictures / f"{colour}.png", prompt=f"a {colour}", steps=2)
        for colour in COLOURS
    ]


def pixels(results: list[EditResult]) -> list[bytes]:
    return [result.image.tobytes() for result in results]


@pytest.fixture(scope="module")
def plans(bundle: Path) -> list[MemoryPlan]:
    return ladder(EnginePool(open_bundle(bundle)).load())


@pytest.fixture
def expected(bundle: Path, pictures: Path) -> list[bytes]:
    with Editor.open(bundle, route_tolerance=0) as editor:
        return pixels([editor.edit(request) for request in requests(pictures)])


class SmallDevice(Ledger):
    """A device that has no more than `capacity` bytes."""

    capacity = 1 << 60

    def hold(self, owner: str, nbytes: int) -> None:
        before = self.held.get(owner, 0)
        if self.total - before + nbytes > self.capacity:
            raise DeviceMemoryError(f"{owner}: {nbytes} bytes do not fit")
        super().hold(owner, nbytes)


def test_every_plan_does_the_same_and_takes_what_was_foreseen(
    bundle: Path, pictures: Path, expected: list[bytes], plans: list[MemoryPlan]
) -> None:
    assert len(plans) > 3
    opened = open_bundle(bundle)
    for plan in plans:
        load = EnginePool(opened).load()
        with Editor(
            opened, EnginePool(opened), route_tolerance=0, memory_budget=peak(load, plan)
        ) as editor:
            assert editor.memory.plan == plan
            assert pixels([editor.edit(request) for request in requests(pictures)]) == expected
            counted, foreseen = editor.engines.ledger.peaks, peaks(load, plan)
            for stage, nbytes in foreseen.items():
                assert counted[stage] <= nbytes, (plan, stage)
            assert max(counted.values()) == pytest.approx(max(foreseen.values()), rel=0.01), plan
            assert not editor.memory.said


def test_edits_go_on_on_any_device_that_some_plan_fits(
    bundle: Path, pictures: Path, expected: list[bytes], plans: list[MemoryPlan]
) -> None:
    opened = open_bundle(bundle)
    load = EnginePool(opened).load()
    most, least = (peak(load, plan) for plan in (plans[0], plans[-1]))
    for capacity in np.linspace(least, most, 9).astype(int).tolist():
        pool = EnginePool(opened)
        pool.ledger = SmallDevice()
        pool.ledger.capacity = capacity
        with Editor(opened, pool, route_tolerance=0) as editor:
            results = [editor.edit(request) for request in requests(pictures)]
        assert pixels(results) == expected
        assert max(pool.ledger.peaks.values()) <= capacity
        said = [warning for result in results for warning in result.warnings]
        assert said == editor.memory.said
        assert bool(said) == (capacity < most)


def test_a_device_that_fits_no_plan_is_a_clear_refusal(bundle: Path, pictures: Path) -> None:
    opened = open_bundle(bundle)
    pool = EnginePool(opened)
    pool.ledger = SmallDevice()
    pool.ledger.capacity = 1000
    with (
        Editor(opened, pool) as editor,
        pytest.raises(DeviceMemoryError, match="no memory plan takes less to"),
    ):
        editor.edit(requests(pictures)[0])


class ForgetfulPool(EnginePool):
    """The first run of every graph in `short` fails for want of memory; `runs` names them all."""

    def __init__(self, bundle: Bundle, *short: str) -> None:
        super().__init__(bundle)
        self.short = set(short)
        self.runs: list[str] = []

    def _opened(self, name: str) -> CheckedEngine:
        engine = super()._opened(name)
        inner = engine._run

        def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
            self.runs.append(name)
            if name in self.short:
                self.short.remove(name)
                raise MemoryError if name == "gate" else DeviceMemoryError("the GPU is full")
            return inner(inputs)

        engine._run = run  # type: ignore[method-assign]
        return engine


@pytest.mark.parametrize("graph", [*GRAPHS, "vae_decoder"])
def test_a_stage_that_runs_out_of_memory_is_begun_again_and_no_other(
    bundle: Path, pictures: Path, expected: list[bytes], graph: str
) -> None:
    opened = open_bundle(bundle)
    pool = ForgetfulPool(opened, graph)
    with Editor(opened, pool, route_tolerance=0) as editor:
        result = editor.edit(requests(pictures)[0])
        assert result.image.tobytes() == expected[0]
        assert editor.memory.plan != MemoryPlan(Keep.EVERYTHING, 3)
        again = editor.edit(requests(pictures)[0])
    (warning,) = result.warnings
    assert warning.startswith("memory ran out to ")
    assert warning.endswith(f"from here on {editor.memory.plan}")
    assert again.warnings == ()
    usual = [*ENCODERS, "gate", *["modulation"] * 2, *["dit"] * 2, "vae_decoder"]
    usual.insert(usual.index(graph), graph)
    assert pool.runs[: len(usual)] == usual


def test_a_merge_that_runs_out_of_memory_is_begun_again(
    bundle: Path, pictures: Path, expected: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from a2edit.runtime.merge import RouteMerger

    real, calls = RouteMerger.merge, []

    def merge(self: RouteMerger, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise MemoryError
        return real(self, *arguments)

    monkeypatch.setattr(RouteMerger, "merge", merge)
    with Editor.open(bundle, route_tolerance=0) as editor:
        results = [editor.edit(request) for request in requests(pictures)]
    assert pixels(results) == expected
    assert [len(result.warnings) for result in results] == [0, 1, 0, 0, 0]
    assert "memory ran out to route" in results[1].warnings[0]


def test_in_a_batch_memory_that_runs_out_costs_no_edit(
    bundle: Path, pictures: Path, expected: list[bytes]
) -> None:
    opened = open_bundle(bundle)
    with Editor(opened, ForgetfulPool(opened, "dit"), route_tolerance=0) as editor:
        assert pixels(editor.edit_many(requests(pictures))) == expected


def test_what_an_engine_says_of_itself_moves_the_plan(bundle: Path, pictures: Path) -> None:
    class Larger(EnginePool):
        def _opened(self, name: str) -> CheckedEngine:
            engine = super()._opened(name)
            if name == "vae_decoder":
                engine.workspace = 4 << 20
            return engine

    opened = open_bundle(bundle)
    budget = peak(EnginePool(opened).load(), MemoryPlan(Keep.EVERYTHING, 3)) + (3 << 20)
    with Editor(opened, Larger(opened), memory_budget=budget) as editor:
        assert editor.memory.plan.keep == Keep.EVERYTHING
        result = editor.edit(requests(pictures)[0])
        assert editor.memory.plan.keep > Keep.EVERYTHING
        assert peak(editor.engines.load(), editor.memory.plan) <= budget
        assert result.route == "red"


def test_budgets_that_no_plan_fits_are_refused(bundle: Path, baked_bundle: Path) -> None:
    for folder in (bundle, baked_bundle):
        with pytest.raises(RequestError, match=r"1000 B is less than any plan .* MiB \(one engine"):
            Editor.open(folder, memory_budget=1000)


def test_baked_engines_leave_for_others(baked_bundle: Path, pictures: Path) -> None:
    opened = open_bundle(baked_bundle)
    load = EnginePool(opened).load()
    wanted = requests(pictures)[::2]
    with Editor(opened, EnginePool(opened)) as editor:
        before = pixels([editor.edit(request) for request in wanted])
    budget = peak(load, MemoryPlan(Keep.EVERYTHING, 1))
    with Editor(opened, EnginePool(opened), memory_budget=budget) as editor:
        assert pixels([editor.edit(request) for request in wanted]) == before
        assert max(editor.engines.ledger.peaks.values()) <= budget


def test_a_list_of_edits_says_once_that_memory_ran_out(
    bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "a2edit.runtime.editor.EnginePool",
        lambda checked, *_, **__: ForgetfulPool(checked, "vae_decoder"),
    )
    job = {"image": "scene.png", "mask": "mask.png", "reference": "red.png", "steps": 1}
    listed = pictures / "jobs.jsonl"
    listed.write_text("".join(json.dumps(job | {"id": name}) + "\n" for name in "ab"))
    result = CliRunner().invoke(
        main, ["--jobs", str(listed), "--out-dir", str(tmp_path), "--bundle", str(bundle)]
    )
    assert result.exit_code == 0, result.output
    (warning,) = result.stderr.splitlines()
    assert warning.startswith("warning: memory ran out to decode (the GPU is full): from here on ")
    assert {path.name for path in tmp_path.glob("*.png")} == {"a.png", "b.png"}

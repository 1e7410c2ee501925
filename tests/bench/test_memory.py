"""Rows and picture of the memory bench, from figures that are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from a2edit.bench.memory import Measured, cases
from a2edit.bench.memory_command import MIB, draw, foreseen_rows, measured_rows
from a2edit.bench.rows import Setup
from a2edit.runtime.memory.costs import Footprint
from a2edit.runtime.memory.plans import Keep, Load, MemoryPlan, ladder, peak

ENCODERS = ("vae_encoder", "image_encoder", "text_encoder", "pooled_encoder")
STEPS = (*ENCODERS, "gate", "modulation")


@pytest.fixture
def load() -> Load:
    engine = Footprint(held=8 * MIB, opening=MIB, waiting=0, running=MIB, read=4 * MIB)
    engines = dict.fromkeys((*STEPS, "dit", "vae_decoder"), engine)
    return Load(engines, set_bytes=32 * MIB, routes=3, rests=True, merging=MIB)


@pytest.fixture
def measured() -> Measured:
    return Measured(
        plan=MemoryPlan(Keep.ONE_STAGE, 1),
        merged=True,
        foreseen={"encode": 90 * MIB, "denoise": 110 * MIB},
        measured={"encode": 80 * MIB, "denoise": 100 * MIB},
    )


def test_rows_of_a_plan_that_was_measured(measured: Measured) -> None:
    rows = {row.subject: row for row in measured_rows(Setup.here("memory", "m", 0), measured)}
    assert rows["one stage, 1 merged: encode, foreseen"].p50 == 90
    assert rows["one stage, 1 merged: denoise, measured"].p50 == 100
    assert rows["one stage, 1 merged: peak, foreseen / measured"].p50 == pytest.approx(1.1)
    assert {row.unit for row in rows.values()} == {"MiB", "x"}


def test_rows_of_a_model_that_was_not_run(load: Load) -> None:
    rows = {
        row.subject: row.p50 for row in foreseen_rows(Setup.here("memory", "m", 0), "sm80", load)
    }
    assert rows["sm80: a weight set, foreseen"] == 32
    assert rows["sm80: everything, 3 sets: read again an edit, foreseen"] == 0
    for plan in ladder(load):
        name = f"sm80: {plan.keep.name.lower().replace('_', ' ')}, {plan.sets} sets: "
        stages = [size for what, size in rows.items() if what.startswith(name)]
        assert peak(load, plan) / MIB in stages


def test_plans_that_keep_the_base_are_measured_and_named(load: Load) -> None:
    on_gpu = replace(load, rests=False, merging=0, base=80 * MIB)
    found = [plan for plan, _ in cases(on_gpu)]
    assert found[0] == MemoryPlan(Keep.EVERYTHING, 3, base=True)
    assert not all(plan.base for plan in found)
    assert set(found) <= set(ladder(on_gpu))
    names = {row.subject for row in foreseen_rows(Setup.here("memory", "m", 0), "sm89", on_gpu)}
    assert "sm89: everything, base kept, 3 sets: denoise, foreseen" in names
    assert "sm89: one stage, 1 sets: denoise, foreseen" in names


def test_every_kind_of_plan_is_measured(load: Load) -> None:
    found = cases(load)
    assert found[0] == (MemoryPlan(Keep.EVERYTHING, 3), False)
    plans = ladder(load)
    assert {plan for plan, merged in found if merged} <= set(plans)
    assert {plan.keep for plan, _ in found} == {plan.keep for plan in plans}


def test_the_picture_is_the_same_every_time(measured: Measured, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("one", "two"):
        draw([measured], tmp_path / f"{name}.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()

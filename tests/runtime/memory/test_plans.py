"""Plans from sizes alone: what each takes by stage, their order, and which one a budget gets."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from a2edit.runtime.errors import RequestError
from a2edit.runtime.memory.costs import Footprint
from a2edit.runtime.memory.plans import (
    PROCESSOR_MERGES,
    STAGES,
    Keep,
    Load,
    MemoryPlan,
    fitting,
    graph_of,
    ladder,
    peak,
    peaks,
    reread,
    set_budget,
)

# Powers of two, so that a sum says what is in it; a third of each to open it, and 3 to run it.
HELD = {
    "vae_encoder": 1 << 10,
    "text_encoder": 1 << 11,
    "pooled_encoder": 1 << 12,
    "image_encoder": 1 << 13,
    "gate": 1 << 14,
    "dit": 1 << 15,
    "vae_decoder": 1 << 16,
    "modulation": 1 << 17,
}
ENCODERS = ("text_encoder", "pooled_encoder", "image_encoder")
SET, OPENING, RUNNING, WAITING = 1 << 20, 5, 3, 9


def footprints(held: Mapping[str, int] = HELD) -> dict[str, Footprint]:
    return {
        name: Footprint(
            held=size,
            opening=OPENING,
            waiting=WAITING if name == "dit" else 0,
            running=RUNNING,
            read=size,
        )
        for name, size in held.items()
    }


def load(*, rests: bool = True, merging: int | None = None, routes: int = 4) -> Load:
    return Load(footprints(), set_bytes=SET, routes=routes, rests=rests, merging=merging)


def test_everything_open_takes_the_sum() -> None:
    found, every = peaks(load(), MemoryPlan(Keep.EVERYTHING, 4)), sum(HELD.values())
    assert found == {
        # from the second edit on, a set is bound; those that are not rest
        "load": every + SET,
        "encode": every + SET + RUNNING,
        "gate": every + SET + RUNNING,
        "modulate": every + SET + RUNNING,
        "denoise": every + SET + RUNNING + WAITING,
        "decode": every + SET + RUNNING,
    }


def test_on_a_gpu_every_set_is_there() -> None:
    found = peaks(load(rests=False), MemoryPlan(Keep.EVERYTHING, 3))
    assert found["denoise"] == sum(HELD.values()) + 3 * SET + RUNNING
    assert found["load"] == sum(HELD.values()) + 3 * SET


def test_sets_that_were_merged_are_there_until_they_are_dropped() -> None:
    merging = 1 << 8
    found = peaks(load(merging=merging), MemoryPlan(Keep.EVERYTHING, 2))
    assert found["route"] == sum(HELD.values()) + 2 * SET + merging
    assert found["denoise"] == sum(HELD.values()) + 2 * SET + RUNNING
    static = peaks(load(merging=merging), MemoryPlan(Keep.EVERYTHING, 2), merged=0)
    assert static["denoise"] == sum(HELD.values()) + SET + RUNNING + WAITING


@pytest.mark.parametrize(
    ("keep", "encode", "denoise", "decode"),
    [
        (
            Keep.NO_ENCODERS,
            set(HELD) - {"modulation"},
            set(HELD) - {*ENCODERS, "modulation"},
            set(HELD) - {*ENCODERS, "modulation"},
        ),
        (
            Keep.NO_AUTOENCODER,
            set(HELD) - {"vae_decoder", "modulation"},
            {"gate", "dit"},
            {"gate", "dit", "vae_decoder"},
        ),
        (Keep.ONE_STAGE, {"vae_encoder", *ENCODERS}, {"dit"}, {"vae_decoder"}),
        (Keep.ONE_ENGINE, {"image_encoder"}, {"dit"}, {"vae_decoder"}),
    ],
)
def test_what_is_open_in_a_stage(
    keep: Keep, encode: set[str], denoise: set[str], decode: set[str]
) -> None:
    found = peaks(load(), MemoryPlan(keep, 4))
    for stage, names in (("encode", encode), ("denoise", denoise), ("decode", decode)):
        bound = SET if "dit" in names else 0
        assert found[stage] & ~15 == sum(HELD[name] for name in names) + bound, stage


def test_a_step_of_another_name_belongs_to_the_denoiser() -> None:
    assert graph_of("dit.red") == graph_of("dit_tail") == "dit"
    assert MemoryPlan(Keep.ONE_STAGE, 1).stays("dit_tail", "dit")
    assert not MemoryPlan(Keep.ONE_STAGE, 1).stays("dit_tail", "vae_decoder")
    assert all(MemoryPlan(keep, 1).stays(step, step) for keep in Keep for step in STAGES)


def test_plans_come_in_the_order_of_what_is_read_again() -> None:
    given = load(rests=False, merging=0)
    plans = ladder(given)
    assert plans[0] == MemoryPlan(Keep.EVERYTHING, 4)
    assert reread(given, plans[0]) == 0
    again, taken = ([of(given, plan) for plan in plans] for of in (reread, peak))
    assert again == sorted(again)
    assert taken == sorted(taken, reverse=True)
    assert len(set(taken)) == len(taken)
    every = [MemoryPlan(keep, sets) for keep in Keep for sets in range(1, 5)]
    assert taken[-1] == min(peak(given, plan) for plan in every)
    # a quarter of the sets for each that is missing; an encoder that is closed, whole
    assert reread(given, MemoryPlan(Keep.EVERYTHING, 3)) == SET / 4
    closed = sum(HELD[name] for name in (*ENCODERS, "modulation"))
    assert reread(given, MemoryPlan(Keep.NO_ENCODERS, 4)) == closed
    # with its denoiser a set leaves the GPU
    assert reread(given, MemoryPlan(Keep.ONE_ENGINE, 4)) == sum(HELD.values()) + SET


def test_a_budget_gets_the_fastest_plan_that_fits_and_sets_get_the_rest() -> None:
    given = load(rests=False, merging=0)
    plans = ladder(given)
    for plan in plans:
        need = peak(given, plan)
        assert fitting(given, plans, need) == plan
        assert set_budget(given, plan, need) == plan.sets * SET
        assert set_budget(given, plan, need + 7) == plan.sets * SET + 7
    with pytest.raises(RequestError, match=r"less than any plan .* give that at least"):
        fitting(given, plans, peak(given, plans[-1]) - 1)
    assert set_budget(given, plans[0], None) is None


def test_a_base_on_the_gpu_is_there_from_the_first_merge_on() -> None:
    base, given = 1 << 22, replace(load(rests=False, merging=0), base=1 << 22)
    kept, sent = (MemoryPlan(Keep.EVERYTHING, 2, on_gpu) for on_gpu in (True, False))
    every = sum(HELD.values())
    assert peaks(given, kept)["load"] == every + base + 2 * SET
    assert peaks(given, kept, merged=0) == peaks(given, sent, merged=0)
    assert {stage: size - base for stage, size in peaks(given, kept).items()} == peaks(given, sent)
    assert str(kept).endswith("base and experts stay on the GPU that merges")


@pytest.mark.parametrize("keep", [Keep.ONE_STAGE, Keep.ONE_ENGINE])
def test_a_base_is_sent_for_a_merge_where_little_stays_open(keep: Keep) -> None:
    base, given = 1 << 22, replace(load(rests=False, merging=0), base=1 << 22)
    plan = MemoryPlan(keep, 1, base=True)
    found = peaks(given, plan)
    assert found["route"] == base + SET
    # what was merged stays, without base and denoiser
    assert found["gate"] == SET + HELD["gate"] + RUNNING + OPENING
    assert found["denoise"] == SET + HELD["dit"] + RUNNING + WAITING + OPENING
    saved = PROCESSOR_MERGES * (base + SET) - base
    without = reread(given, replace(plan, base=False))
    assert reread(given, plan) == without - saved / (given.routes + 1)
    assert str(plan).endswith("base and experts are sent to the GPU that merges")


def test_a_base_that_does_not_fit_is_sent_at_every_merge() -> None:
    given = replace(load(rests=False, merging=0), base=1 << 22)
    plans = ladder(given)
    assert plans[0] == MemoryPlan(Keep.EVERYTHING, 4, base=True)
    without = MemoryPlan(Keep.EVERYTHING, 4)
    assert reread(given, plans[0]) == 0
    # one of five requests is merged for, if that is asked for as often as any one route
    assert reread(given, without) == PROCESSOR_MERGES * (given.base + SET) / 5
    assert fitting(given, plans, peak(given, without)).base is False
    again = [reread(given, plan) for plan in plans]
    assert again == sorted(again)
    assert not any(plan.base for plan in ladder(load(rests=False, merging=0)))


def test_baked_routes_are_engines() -> None:
    held = {name: size for name, size in HELD.items() if name != "dit"}
    held |= {f"dit.{name}": 1 << 15 for name in "abc"}
    given = Load(footprints(held), set_bytes=SET, routes=3, rests=True, merging=None)
    assert given.baked
    rest = sum(HELD.values()) - HELD["dit"]
    for sets in (1, 3):
        found = peaks(given, MemoryPlan(Keep.EVERYTHING, sets))
        assert found["denoise"] == rest + sets * HELD["dit"] + OPENING + RUNNING
    assert reread(given, MemoryPlan(Keep.EVERYTHING, 2)) == pytest.approx(HELD["dit"] / 3)

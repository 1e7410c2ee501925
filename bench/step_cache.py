"""What the step cache gains and what it changes: edits with it beside edits without, in turns."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np

from a2edit.bench.heldout.cases import Case, drawn_cases
from a2edit.bench.rows import Row, Setup
from a2edit.export.pixels import ZoneFigures, Zones, by_zone
from a2edit.runtime.editor import Editor
from a2edit.runtime.request import EditResult
from a2edit.runtime.step_cache import FirstBlockCache

# An edit is what the user gets: outside of the band around the mask it is the source itself.
ZONES = ("mask", "band")
WARM_UP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure, each threshold on the same edits."""

    bundle: Path
    thresholds: tuple[float, ...]
    rounds: int
    steps: int | None = None  # default: the bundle's


@dataclass(slots=True)
class Side:
    """One way of editing: a threshold, or None without a cache. A value a round."""

    editor: Editor
    seconds: list[float] = field(default_factory=list)
    skipped: list[float] = field(default_factory=list)  # percent of the steps
    likeness: list[dict[str, ZoneFigures]] = field(default_factory=list)

    def edit(self, case: Case, steps: int | None, seed: int, *, count: bool) -> EditResult:
        start = perf_counter()
        result = self.editor.edit(case.request(steps, seed))
        if count:
            self.seconds.append(perf_counter() - start)
            self.skipped.append(100 * result.skipped_steps / result.steps)
        return result


def measure(plan: Plan, note: Callable[[str], None]) -> list[Row]:
    """Every row; in each round all sides make the same edit, of the held-out cases in turn."""
    cases = drawn_cases()
    wishes = [None, *map(FirstBlockCache, plan.thresholds)]
    with ExitStack() as opened:
        sides = [
            Side(opened.enter_context(Editor.open(plan.bundle, cache=wish))) for wish in wishes
        ]
        for turn in range(-WARM_UP, plan.rounds):
            note(f"round {turn + 1} of {plan.rounds}")
            case = cases[turn % len(cases)]
            plain, *others = (
                side.edit(case, plan.steps, max(turn, 0), count=turn >= 0) for side in sides
            )
            for side, cached in zip(sides[1:], others, strict=True):
                if turn >= 0:
                    side.likeness.append(likeness(cached, plain))
        manifest = sides[0].editor.bundle.manifest
    setup = Setup.here("cache", manifest.name, plan.steps or manifest.sampler.steps)
    rows = [setup.row("without a cache: edit", "s", sides[0].seconds)]
    for wish, side in zip(wishes[1:], sides[1:], strict=True):
        rows += _rows(setup, str(wish), side, sides[0])
    return rows


def likeness(cached: EditResult, plain: EditResult) -> dict[str, ZoneFigures]:
    """Of the picture with a cache to the one without, in the mask and around it."""
    assert plain.prepared is not None
    zones = Zones.of(plain.prepared.source_mask)
    first, second = (np.asarray(it.image.convert("RGB")) for it in (cached, plain))
    return by_zone(first, second, zones, ZONES)


def _rows(setup: Setup, name: str, side: Side, plain: Side) -> list[Row]:
    gains = np.array(plain.seconds) / np.array(side.seconds)
    rows = [
        setup.row(f"{name}: edit", "s", side.seconds),
        setup.row(f"{name}: times as fast as without", "x", gains.tolist()),
        setup.row(f"{name}: steps skipped", "%", side.skipped),
    ]
    for zone in ZONES:
        found = [pictures[zone] for pictures in side.likeness if zone in pictures]
        rows.append(setup.row(f"{name}: PSNR, {zone}", "dB", [it.psnr_db for it in found]))
        rows.append(
            setup.row(f"{name}: PSNR, {zone}, least", "dB", [min(it.psnr_db for it in found)])
        )
        rows.append(setup.row(f"{name}: SSIM, {zone}", "", [it.ssim for it in found]))
    return rows

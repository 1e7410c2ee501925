"""What the step cache gains and what it changes: edits with it beside edits without, in turns.

And whether a threshold holds: in edits that nobody times, the tail runs in skipped steps too.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np

from a2edit.bench.heldout.cases import Case, drawn_cases
from a2edit.bench.rows import Row, Setup
from a2edit.export.pixels import ZoneFigures, Zones, by_zone
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines.base import Array
from a2edit.runtime.request import EditResult
from a2edit.runtime.routing import RouteChoice
from a2edit.runtime.step_cache import CachedDenoiser, FirstBlockCache, SkipRule, cache_entry

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
    errors: dict[FirstBlockCache | None, list[float]] = {}
    for wish in wishes[1:]:
        note(f"velocities of skipped steps, {wish}")
        with WatchedEditor.open(plan.bundle, cache=wish) as editor:
            for place, case in enumerate(cases):
                editor.edit(case.request(plan.steps, place))
            errors[wish] = editor.errors
    setup = Setup.here("cache", manifest.name, plan.steps or manifest.sampler.steps)
    rows = [setup.row("without a cache: edit", "s", sides[0].seconds)]
    for wish, side in zip(wishes[1:], sides[1:], strict=True):
        rows += _rows(setup, str(wish), side, sides[0])
        if found := [100 * error for error in errors[wish]]:
            rows.append(setup.row(f"{wish}: velocity error of skipped steps", "%", found))
            largest = f"{wish}: velocity error of skipped steps, largest"
            rows.append(setup.row(largest, "%", [max(found)]))
    return rows


class WatchedEditor(Editor):
    """With a cache; `errors` are those of the velocities of all steps that it skipped."""

    errors: list[float]

    def _denoiser(self, choice: RouteChoice, steps: int) -> "WatchedDenoiser":
        assert self.cache is not None
        rule = SkipRule.of(self.cache, cache_entry(self.bundle.manifest), choice)
        denoiser = WatchedDenoiser(*self.engines.head_and_tail(choice), rule, steps)
        self.errors = denoiser.errors = getattr(self, "errors", [])
        return denoiser


class WatchedDenoiser(CachedDenoiser):
    """Runs what it would have run at a skipped step too: ‖skipped − whole‖ / ‖whole − latents‖."""

    errors: list[float]

    def run(self, inputs: Mapping[str, Array], unchanged: Collection[str] = ()) -> dict[str, Array]:
        kept, skipped = dict(self._kept), self.skipped
        made = super().run(inputs, unchanged)
        if self.skipped > skipped:
            found = self._head.run({**inputs, **kept})
            step, latents = self._whole({**inputs, **found})["next_latents"], inputs["latents"]
            gap = np.linalg.norm(made["next_latents"] - step)
            self.errors.append(float(gap / np.linalg.norm(step - latents)))
        return made


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

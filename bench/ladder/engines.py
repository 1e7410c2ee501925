"""The ladder on a processor: one request, from the papers' set-up to engines in 8 bits.

Every rung runs whole edits of the embedded model through its own host; rounds are interleaved, so
that a busy machine is busy for all. Engines come from bundles that are built on the way.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from a2edit.bench.figures import Edits, region_of
from a2edit.bench.heldout.cases import drawn_case
from a2edit.bench.ladder.flops import step_flops
from a2edit.bench.ladder.rungs import Ladder, Rung
from a2edit.bench.latency import CASE, interleaved, write_request
from a2edit.bench.metrics import psnr
from a2edit.bench.worker import in_process, open_side
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.settings import BuildSettings
from a2edit.runtime.errors import TargetError
from a2edit.runtime.request import EditResult
from a2edit.runtime.step_cache import FirstBlockCache
from a2edit.runtime.targets import Precision

Note = Callable[[str], None]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
CACHED: Precision = "fp32"
# The request's own weights are merged on demand where none of them is near; more only cost time.
ROUTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to climb.

    Attributes:
        model: a checkpoint or its name.
        work: where bundles are built; a second run finds them.
        rounds: edits that are timed of every rung.
        steps: of an edit.
        samples: calibration requests of a bundle.
    """

    model: str
    work: Path
    rounds: int
    steps: int
    samples: int


@dataclass(frozen=True, slots=True)
class Way:
    """A rung before it is measured: a side of `bench.worker`, and the model or bundle it opens."""

    name: str
    side: str
    model: str


def climb(plan: Plan, note: Note) -> Ladder:
    """Build what is missing, and measure every rung that this processor has."""
    ways = _ways(plan, bundles(plan, note))
    case = drawn_case(CASE)
    results: dict[str, list[EditResult]] = {way.name: [] for way in ways}
    sides: dict[str, Edits] = {}
    for way in ways:
        note(f"opening {way.name}")
        sides[way.name] = open_side(way.side, way.model)
    note(f"{plan.rounds} rounds of {len(ways)} edits, {plan.steps} steps each")
    seconds = interleaved(
        sides,
        case,
        plan.steps,
        plan.rounds,
        time.perf_counter,
        lambda side, result: results[side].append(result),
    )
    sides.clear()
    first, region = results[ways[0].name], region_of(case)
    rungs = []
    with tempfile.TemporaryDirectory() as folder:
        request = write_request(case, plan.steps, Path(folder))
        for way in ways:
            note(f"memory of {way.name}, in a process of its own")
            own = results[way.name]
            rungs.append(
                Rung(
                    name=way.name,
                    runs=seconds[way.name],
                    steps=[one.timings["denoise"] / plan.steps for one in own],
                    likeness=()
                    if own is first
                    else [
                        psnr(np.asarray(one.image), np.asarray(true.image), region)
                        for one, true in zip(own, first, strict=True)
                    ],
                    peak_mb=in_process(way.side, way.model, request)["peak"],
                )
            )
    return Ladder(rungs, step_flops(plan.model).all)


def bundles(plan: Plan, note: Note) -> Mapping[Precision, str]:
    """One a precision that this processor computes in; steps that they share are done once."""
    found: dict[Precision, str] = {}
    for precision in PRECISIONS:
        note(f"building the engines in {precision}")
        settings = BuildSettings(
            model=plan.model,
            out=plan.work / precision,
            precision=precision,
            samples=plan.samples,
            routes=ROUTES,
            accept_quality=True,  # what it costs is what a ladder shows
            step_cache=FirstBlockCache() if precision == CACHED else None,
        )
        try:
            build(settings, _Stages(note, precision))
        except TargetError as error:
            note(f"left out: {error}")
        else:
            found[precision] = str(settings.out)
    return found


def _ways(plan: Plan, built: Mapping[Precision, str]) -> Sequence[Way]:
    ways = [
        Way("torch eager, experts by PEFT", "peft", plan.model),
        Way("torch eager, route merged", "merged", plan.model),
        Way("ONNX Runtime, fp32", "onnxruntime", built["fp32"]),
    ]
    ways += [Way(f"OpenVINO, {kind}", "engine", folder) for kind, folder in built.items()]
    return [*ways, Way(f"OpenVINO, {CACHED}, step cache", "cached", built[CACHED])]


class _Stages(Silent):
    """A build's progress in one line."""

    def __init__(self, note: Note, precision: str) -> None:
        self._note, self._precision = note, precision

    def start(self, step: str) -> None:
        self._note(f"building the engines in {self._precision}: {step}")

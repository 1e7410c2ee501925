"""The bundle's engines against the torch reference: warm edits, cold start, memory.

Warm edits of all sides are interleaved in one process, so that a busy machine is busy for all of
them. Cold start and peak memory come from processes that do nothing else (`worker.py`).
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from a2edit.bench.figures import Edits
from a2edit.bench.heldout.cases import Case, drawn_case
from a2edit.bench.reference import peft_reference, torch_reference
from a2edit.bench.rows import Row, Setup
from a2edit.bench.timed import open_timed
from a2edit.bench.worker import in_process, output_of
from a2edit.runtime.request import EditRequest

CASE = "diver"  # of the held-out cases
WARM_UP = 2
COLD_RUNS = 3
PYTHON_HOST = "from a2edit.runtime.cli import main; main()"

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to compare. `baked` is a second bundle of the same model, weights as constants."""

    bundle: Path
    model: str  # the checkpoint of the torch reference
    baked: Path | None = None
    rounds: int = 9
    steps: int | None = None  # default: the bundle's


def measure(plan: Plan, note: Note) -> list[Row]:
    """Every row of the comparison; `note` is told what is being measured."""
    case = drawn_case(CASE)
    editor, pool = open_timed(plan.bundle)
    steps = plan.steps or editor.bundle.manifest.sampler.steps
    setup = Setup.here("latency", editor.bundle.manifest.name, steps)
    sides: dict[str, Edits] = {"engine": editor}
    if plan.baked:
        sides["engine, baked"] = open_timed(plan.baked)[0]
    note("loading the torch reference")
    sides["torch, unmerged"] = torch_reference(plan.model)
    sides["torch, PEFT"] = peft_reference(plan.model)

    note(f"warm edits, {plan.rounds} rounds of {', '.join(sides)}")
    seconds = interleaved(sides, case, steps, plan.rounds, time.perf_counter)
    rows = [setup.row(f"{side}, warm edit", "s", values) for side, values in seconds.items()]
    for side in ("torch, unmerged", "torch, PEFT"):
        ratio = np.array(seconds[side]) / np.array(seconds["engine"])
        rows.append(setup.row(f"{side} / engine, warm edit", "x", list(ratio)))
    note("the editor's own share")
    shares = [_own_share(editor, pool.spent, case, steps, seed) for seed in range(plan.rounds)]
    rows.append(setup.row("editor's own work / engine calls", "%", shares))
    editor.close()

    with tempfile.TemporaryDirectory() as folder:
        request = write_request(case, steps, Path(folder))
        note(f"cold start, {COLD_RUNS} processes")
        cold = [_cold_start(plan.bundle, request) for _ in range(COLD_RUNS)]
        rows.append(setup.row("engine, process to file", "s", cold))
        workers = [("engine", "engine", str(plan.bundle)), ("torch, unmerged", "torch", plan.model)]
        if plan.baked:
            workers.insert(1, ("engine, baked", "engine", str(plan.baked)))
        for side, kind, model in workers:
            note(f"memory of {side}, in a process of its own")
            figures = in_process(kind, model, request)
            rows.append(setup.row(f"{side}, import and open", "s", [figures["open"]]))
            rows.append(setup.row(f"{side}, first edit", "s", [figures["first"]]))
            rows.append(setup.row(f"{side}, peak resident set", "MB", [figures["peak"]]))
    return rows


class Host(Protocol):
    """Whatever edits; what comes back is not looked at."""

    def edit(self, request: EditRequest) -> object: ...


def interleaved(
    sides: Mapping[str, Host],
    case: Case,
    steps: int,
    rounds: int,
    clock: Callable[[], float],
    each: Callable[[str, Any], object] = lambda *_: None,
) -> dict[str, list[float]]:
    """Seconds of each side's edits: every round runs all sides once on the same request.

    `each` is told of every result, but for those of the rounds that warm up.
    """
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(-WARM_UP, rounds):
        for side, edits in sides.items():
            start = clock()
            result = edits.edit(case.request(steps=steps, seed=max(turn, 0)))
            if turn >= 0:
                seconds[side].append(clock() - start)
                each(side, result)
    return seconds


def _own_share(editor: Edits, spent: list[float], case: Case, steps: int, seed: int) -> float:
    """Percent: what an edit takes beyond its engine calls, over those."""
    before = sum(spent)
    start = time.perf_counter()
    editor.edit(case.request(steps=steps, seed=seed))
    whole, engines = time.perf_counter() - start, sum(spent) - before
    return 100 * (whole - engines) / engines


def write_request(case: Case, steps: int, folder: Path, prompt: str = "a diver") -> Path:
    """The request as files, for processes that must not draw it themselves."""
    paths = {name: str(folder / f"{name}.png") for name in ("image", "mask", "reference")}
    case.scene.save(paths["image"])
    Image.fromarray(case.mask).save(paths["mask"])
    case.reference.save(paths["reference"])
    request: dict[str, Any] = {**paths, "steps": steps, "prompt": prompt}
    path = folder / "request.json"
    path.write_text(json.dumps(request), encoding="utf-8")
    return path


def _cold_start(bundle: Path, request: Path) -> float:
    """Seconds from starting a2edit-run to its file being there."""
    command = edit_command([sys.executable, "-c", PYTHON_HOST], bundle, request)
    start = time.perf_counter()
    output_of(command)
    return time.perf_counter() - start


def edit_command(host: list[str], bundle: Path, request: Path) -> list[str]:
    """One edit by a host's command line; its output is edit.png beside the request."""
    asked: dict[str, Any] = json.loads(request.read_text(encoding="utf-8"))
    options = {**asked, "bundle": bundle, "out": request.with_name("edit.png")}
    return [*host, *(part for name, value in options.items() for part in (f"--{name}", str(value)))]

"""What routes cost a running editor: switching, merging on demand, memory, weights as inputs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from a2edit.bench.rows import Row, Setup
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines.base import OPEN, Array, Engine
from a2edit.runtime.engines.cuda import bytes_in_use
from a2edit.runtime.engines.pool import DENOISER, MODULATION
from a2edit.runtime.errors import EngineError
from a2edit.runtime.memory import status_mb

Note = Callable[[str], None]
Table = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure. `baked` and `opened` are other bundles of the same model.

    Of `baked` weights are constants, and `opened` leaves sizes and batch open.
    """

    bundle: Path
    model: str  # the checkpoint of the torch reference
    device: str = "cpu"  # of the editors
    baked: Path | None = None
    opened: Path | None = None
    rounds: int = 40
    merges: int = 24
    exact: int = 4


def measure(plan: Plan, note: Note) -> list[Row]:
    """Every row; what is compared takes turns in one process."""
    # Tolerance 0: the routes' own tables are static all the same, and anything else is merged.
    with Editor.open(plan.bundle, device=plan.device, route_tolerance=0) as editor:
        manifest = editor.bundle.manifest
        setup = Setup.here("switching", manifest.name, manifest.sampler.steps, plan.device)
        editor.open_engines()
        inputs = example_inputs(editor)
        tables = [np.array(route.table, np.float32) for route in manifest.routes.values()]
        note(f"steps and switches, {plan.rounds} rounds over {len(tables)} routes")
        rows = _switches(setup, editor, inputs, tables, plan.rounds)
        note(f"routes merged on demand, {plan.merges}")
        rows += _merges(setup, editor, inputs, tables, plan.merges)
        note(f"merged on demand against torch, {plan.exact} requests")
        rows += _exact(setup, editor, plan)
        if plan.baked:
            note("weights as inputs and baked, in turn")
            with Editor.open(plan.baked, device=plan.device) as other:
                sides = {"weights as inputs": editor, "baked": other}
                rows += _beside(setup, sides, inputs, plan.rounds)
        if plan.opened:
            note("sizes open and one size, in turn")
            with Editor.open(plan.opened, device=plan.device) as other:
                sides = {"sizes open": other, "one size": editor}
                rows += _beside(setup, sides, inputs, plan.rounds)
                rows += _together(setup, other, inputs, plan.rounds)
    counts = sorted({1, len(tables)})
    found = {}
    for count in counts:
        note(f"memory with {count} routes resident, in a process of its own")
        found[count] = resident(plan.bundle, count, plan.device)
        for name, value in found[count].items():
            rows.append(setup.row(f"{name}, {count} routes resident", "MB", [value]))
    for name in found[1]:
        ratio = found[counts[-1]][name] / found[1][name]
        rows.append(setup.row(f"{name}, {counts[-1]} routes / 1", "x", [ratio]))
    return rows


def _switches(
    setup: Setup, editor: Editor, inputs: dict[str, Array], tables: Sequence[Table], rounds: int
) -> list[Row]:
    """A step at rest, a switch between sets in memory, and the step right behind it."""
    seconds: dict[str, list[float]] = {"step": [], "switch": [], "after": []}
    for turn in range(-len(tables), rounds):
        start = time.perf_counter()
        engine = editor.engines.denoiser(editor.routes.get(tables[turn % len(tables)]))
        switched = time.perf_counter()
        engine.run(inputs)
        behind = time.perf_counter()
        engine.run(inputs)
        if turn >= 0:
            seconds["switch"].append(switched - start)
            seconds["after"].append(behind - switched)
            seconds["step"].append(time.perf_counter() - behind)
    step = float(np.median(seconds["step"]))
    return [
        setup.row("denoising step", "ms", [1e3 * s for s in seconds["step"]]),
        setup.row("first step after a switch", "ms", [1e3 * s for s in seconds["after"]]),
        setup.row("switch between resident routes", "ms", [1e3 * s for s in seconds["switch"]]),
        setup.row("switch / step", "%", [100 * s / step for s in seconds["switch"]]),
    ]


def _merges(
    setup: Setup, editor: Editor, inputs: dict[str, Array], tables: Sequence[Table], count: int
) -> list[Row]:
    """Tables that no route is near: merged, bound, and a step; the ratio is to a step beside it."""
    rng = np.random.default_rng(0)
    merges, steps = [], []
    for turn in range(-2, count):
        # Half of one route and half of another, unevenly: two to three experts awake a block.
        first, second = rng.choice(len(tables), 2, replace=len(tables) < 2)
        share = np.float32(rng.uniform(0.3, 0.7))
        table = share * tables[first] + (1 - share) * tables[second]
        start = time.perf_counter()
        choice = editor.routes.get(table)
        engine = editor.engines.denoiser(choice)
        merged = time.perf_counter()
        engine.run(inputs)
        stepped = time.perf_counter()
        if choice.supply != "merged":
            raise EngineError(
                f"a table between two routes was served by {choice.route!r}: the bundle has no "
                "experts to merge (--routes-only), or all of its routes are alike"
            )
        if turn >= 0:
            merges.append(merged - start)
            steps.append(stepped - merged)
    ratios = [merge / step for merge, step in zip(merges, steps, strict=True)]
    return [
        setup.row("merge and bind a route", "ms", [1e3 * s for s in merges]),
        setup.row("merge and bind / step", "x", ratios),
    ]


def _exact(setup: Setup, editor: Editor, plan: Plan) -> list[Row]:
    """Velocities of merged routes against torch with unmerged experts at the gate's own table."""
    from a2edit.calibration.samples import HELD_OUT, calibration_requests, encode
    from a2edit.export.held_out import feeds_of, truth_of
    from a2edit.export.quality import velocity_error
    from a2edit.model.checkpoint import Checkpoint
    from a2edit.model.graphs import make_graphs

    checkpoint = Checkpoint.load(plan.model)
    graphs = make_graphs(checkpoint)
    errors = []
    for sample in encode(graphs, calibration_requests(checkpoint, None, HELD_OUT, plan.exact)):
        # A little off the gate's wish, so that no static route is near.
        table = sample.table * np.float32(0.5)
        choice = editor.routes.get(table)
        if choice.supply != "merged":
            raise EngineError(f"route {choice.route!r} served a halved table: nothing was merged")
        engine = editor.engines.denoiser(choice)
        truth = truth_of(checkpoint, graphs, sample, 0, table)
        feeds = feeds_of(sample, checkpoint.config.guidance)
        errors.append(velocity_error(engine, editor.engines.get(MODULATION), feeds, truth))
    return [setup.row("merged on demand against torch, relative error of the velocity", "", errors)]


def _beside(
    setup: Setup, editors: dict[str, Editor], inputs: dict[str, Array], rounds: int
) -> list[Row]:
    """A step of the same route in two bundles, in turn."""
    engines = {name: _first_route(editor) for name, editor in editors.items()}
    seconds = _in_turn(
        {name: partial(engine.run, inputs) for name, engine in engines.items()}, rounds
    )
    ratio = np.divide(*(np.array(of) for of in seconds.values()))
    return [
        *(setup.row(f"step, {name}", "ms", [1e3 * s for s in of]) for name, of in seconds.items()),
        setup.row(f"step, {' / '.join(engines)}", "x", ratio.tolist()),
    ]


def _together(setup: Setup, editor: Editor, inputs: dict[str, Array], rounds: int) -> list[Row]:
    """A step of as many requests as the engine takes, and as many steps of one."""
    engine, count = _first_route(editor), editor.bundle.manifest.model.batch
    many = {name: np.repeat(array, count, 0) for name, array in inputs.items()}

    def one_by_one() -> None:
        for _ in range(count):
            engine.run(inputs)

    seconds = _in_turn({"many": partial(engine.run, many), "ones": one_by_one}, rounds // 2)
    ratio = np.array(seconds["many"]) / np.array(seconds["ones"])
    return [setup.row(f"step of {count} requests / {count} steps", "x", ratio.tolist())]


def _first_route(editor: Editor) -> Engine:
    route = next(iter(editor.bundle.manifest.routes.values()))
    return editor.engines.denoiser(editor.routes.get(np.array(route.table, np.float32)))


def _in_turn(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, round by round; the first three warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(-3, rounds):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def example_inputs(editor: Editor) -> dict[str, Array]:
    """Inputs of a step in the range that requests have; the same at every call."""
    rng = np.random.default_rng(0)
    manifest = editor.bundle.manifest
    spec, model = editor.engines.graph.spec(DENOISER), manifest.model
    usual = (1, *model.grid(model.size), 0)  # where the graph leaves sizes open
    inputs: dict[str, Array] = {}
    for one in spec.inputs:
        shape = [size if own == OPEN else own for own, size in zip(one.shape, usual, strict=False)]
        inputs[one.name] = rng.standard_normal(shape).astype(one.dtype)
    return inputs | {"delta": np.array([-0.05], np.float32)}


def resident(bundle: Path, routes: int, device: str = "cpu") -> dict[str, float]:
    """Memory in MB of a process that has run a step of each of so many routes and keeps them."""
    command = [sys.executable, "-m", "a2edit.bench.switching", str(bundle), str(routes), device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineError(f"the process with {routes} routes exited with {done.returncode}: {last}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _hold(bundle: str, routes: str, device: str) -> dict[str, float]:
    with Editor.open(bundle, device=device) as editor:
        editor.open_engines()
        inputs = example_inputs(editor)
        for route in list(editor.bundle.manifest.routes.values())[: int(routes)]:
            choice = editor.routes.get(np.array(route.table, np.float32))
            editor.engines.denoiser(choice).run(inputs)
        # RssAnon leaves out pages of mapped files: shared by processes, given back under pressure.
        kinds = {"resident set": "VmRSS", "of it anonymous": "RssAnon"}
        found = {name: status_mb(field) for name, field in kinds.items()}
        if device == "cuda":
            found["memory of the GPU in use"] = bytes_in_use() / 1e6
    return {name: value for name, value in found.items() if value is not None}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_hold(*sys.argv[1:])) + "\n")

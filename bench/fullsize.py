"""What building a full-size model takes: plans for GPUs, routes; random weights, seconds, memory.

    python -m a2edit.bench.fullsize CASE MODEL FOLDER

is one case in a process of its own, so that its peak is its own, and prints one line of JSON. A
plan is built in a further process (`export.compile.tensorrt`), whose peak is a figure of its own.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING

import numpy as np

from a2edit.bench.random_weights import fill
from a2edit.export.openings import NOTHING_OPEN, Openings
from a2edit.runtime.errors import EngineError
from a2edit.runtime.memory import peak_resident_mb

if TYPE_CHECKING:
    from a2edit.model.weightless import Shapes

FREE = 15 * 2**30  # bytes of a disk that a case leaves alone
ROUTES = {"route-int8": "sm80", "route-fp8": "sm89"}
DENOISERS = {"dit-sm80": "sm80", "dit-sm89": "sm89"}
STREAMS = "streams"
# The whole model on a small canvas, and one layer of each kind at the model's own size.
CALIBRATIONS = ("calibration", "activations")
OTHERS = (
    "text_encoder",
    "image_encoder",
    "pooled_encoder",
    "vae_encoder",
    "vae_decoder",
    "gate",
    "modulation",
)
DEFAULT = (*DENOISERS, *OTHERS, STREAMS, *ROUTES, *CALIBRATIONS)
# What T5's matrices cost as constants: 20 GB of memory.
CONSTANTS = "text_encoder-constants"
# Graphs that leave open what is usual on a GPU: three sizes, up to four requests a run.
OPENED = {f"{case}-open": case for case in (*DENOISERS, *OTHERS)}
OPENINGS = Openings((512, 768, 1024), 4)
CASES = (*DEFAULT, CONSTANTS, *OPENED)
# Graphs whose large matrices are inputs; TensorRT copies constants more than once while it builds.
AS_INPUTS = ("dit", "modulation", "text_encoder")
LAYERS = "num_layers", "num_single_layers"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number of a case."""

    what: str
    unit: str
    value: float


def measure_case(case: str, model: str, folder: Path) -> list[Figure]:
    """Run one case in a process of its own.

    Args:
        case: one of `CASES`.
        model: "flux-fill", or a checkpoint, of which config files are all that is read.
        folder: for files of up to 40 GB, which are removed.

    Raises:
        EngineError: the case failed; the message has its last line.
    """
    command = [sys.executable, "-m", "a2edit.bench.fullsize", case, model, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise EngineError(f"{case} of {model} failed: {last}")
    return [Figure(**entry) for entry in json.loads(done.stdout.splitlines()[-1])]


def run_case(case: str, shapes: Shapes, folder: Path) -> list[Figure]:
    """The figures of one of `CASES`, measured in this process; files are left in `folder`."""
    if case == STREAMS:
        return streams_case(shapes, folder)
    if case in CALIBRATIONS:
        return calibration_case(case, shapes, folder)
    if case in ROUTES:
        return route_case(ROUTES[case], shapes, folder)
    openings = OPENINGS if case in OPENED else NOTHING_OPEN
    case = OPENED.get(case, case)
    graph = "dit" if case in DENOISERS else case.removesuffix("-constants")
    as_inputs = graph in AS_INPUTS and case != CONSTANTS
    target = DENOISERS.get(case, "sm80")
    return plan_case(graph, target, shapes, folder, openings, as_inputs=as_inputs)


def plan_case(
    graph: str,
    target_name: str,
    shapes: Shapes,
    folder: Path,
    openings: Openings,
    *,
    as_inputs: bool,
) -> list[Figure]:
    """The plan of one graph by the preset "balanced"; other constants are random.

    Ranges are made up: they are scales in the graph, and change neither size nor seconds.
    """
    import torch

    from a2edit.bench.exporting import export_graph
    from a2edit.calibration.policy import graph_policy, resolve
    from a2edit.export.compile.tensorrt import engine_from_onnx
    from a2edit.export.onnx_export import SHARED_FILE
    from a2edit.export.passes.external import LARGE
    from a2edit.model.graphs import make_graphs
    from a2edit.model.weightless import fake_checkpoint, without_weights
    from a2edit.runtime.targets import TARGETS

    target = TARGETS[target_name]
    policy = graph_policy(graph, target, resolve(target, None, "balanced"), small=False)
    with without_weights():
        checkpoint = fake_checkpoint(shapes, torch.float32)
    cost = export_graph(checkpoint, graph, folder, policy, as_inputs=as_inputs, openings=openings)
    if not as_inputs:
        _leave_free(folder, 2 * cost.parameter_bytes)
    fill(folder / SHARED_FILE, LARGE if as_inputs else math.inf)
    peak = peak_resident_mb()
    report = engine_from_onnx(
        folder / f"{graph}.onnx",
        folder / f"{graph}.plan",
        target,
        "tensorrt_rtx",
        openings.profiles(make_graphs(checkpoint)[graph]),
    )
    return [
        Figure("export", "s", cost.seconds),
        Figure("export, peak resident set", "MB", peak),
        Figure("parameters outside", "MB", cost.parameter_bytes / 1e6),
        Figure(f"plan ({policy.variant})", "s", report.seconds),
        Figure("plan, peak resident set", "MB", report.peak_mb),
        Figure("plan, size", "MB", report.size / 1e6),
    ]


def streams_case(shapes: Shapes, folder: Path) -> list[Figure]:
    """What a build copies out of a checkpoint in shards: shared.safetensors, merge.safetensors.

    Its denoiser has a quarter of the blocks, since seconds go with bytes, and memory does not.
    """
    from a2edit.bench.random_weights import checkpoint_bytes, random_checkpoint
    from a2edit.export.onnx_export import SHARED_FILE
    from a2edit.export.source import Source
    from a2edit.export.steps.merge import MERGE_FILE, save_merge_source
    from a2edit.export.weights import save_shared

    doubles, singles = (-(-int(shapes.transformer[key]) // 4) for key in LAYERS)
    fewer = {LAYERS[0]: doubles, LAYERS[1]: singles}
    part = replace(shapes, transformer={**shapes.transformer, **fewer})
    _leave_free(folder, 2 * checkpoint_bytes(part))  # each byte is in one of the two files
    random_checkpoint(part, folder / "model")
    source = Source(folder / "model")
    marks = [time.perf_counter()]
    heads = source.outline
    marks.append(time.perf_counter())
    save_shared(heads, source.folder, folder / SHARED_FILE)
    marks.append(time.perf_counter())
    save_merge_source(folder, source)
    marks.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(marks)]
    blocks = f"{doubles} + {singles} blocks"
    return [
        Figure(f"heads of all files, {blocks}", "s", seconds[0]),
        Figure(f"{SHARED_FILE}, {blocks}", "s", seconds[1]),
        Figure(f"{SHARED_FILE}, size", "MB", (folder / SHARED_FILE).stat().st_size / 1e6),
        Figure(f"{MERGE_FILE}, {blocks}", "s", seconds[2]),
        Figure(f"{MERGE_FILE}, size", "MB", (folder / MERGE_FILE).stat().st_size / 1e6),
        Figure("peak resident set", "MB", peak_resident_mb()),
    ]


def calibration_case(case: str, shapes: Shapes, folder: Path) -> list[Figure]:
    """A model out of its files, as calibration and verification run it, a forward each."""
    from a2edit.bench.calibrating import FILES, OWN, run_steps, shallow, smaller
    from a2edit.bench.random_weights import checkpoint_bytes, random_checkpoint

    part = {"calibration": smaller, "activations": shallow}[case](shapes)
    stored = checkpoint_bytes(part)
    _leave_free(folder, stored)
    random_checkpoint(part, folder / "model")
    figures = [Figure("model", "MB", stored / 1e6)]
    for what, took in run_steps(folder / "model"):
        figures += [
            Figure(what, "s", took.seconds),
            Figure(f"{what}, peak of its own", "MB", took.most[OWN]),
            Figure(f"{what}, peak of pages of files", "MB", took.most[FILES]),
        ]
    return figures


def route_case(target_name: str, shapes: Shapes, folder: Path) -> list[Figure]:
    """One route of all blocks, every expert awake in each: merged, quantised, streamed to disk."""
    from a2edit.bench.random_weights import linears_of, merge_specs, random_merge_source
    from a2edit.calibration.policy import DENOISER, graph_policy, resolve
    from a2edit.calibration.routes import Route
    from a2edit.export.precision import QUANTISED
    from a2edit.export.steps.merge import save_weight_set
    from a2edit.runtime.engines.base import TensorSpec
    from a2edit.runtime.targets import TARGETS

    target = TARGETS[target_name]
    policy = graph_policy(DENOISER, target, resolve(target, None, "balanced"), small=False)
    rest = {"bf16": "bfloat16", "fp32": "float32"}[policy.rest]
    _leave_free(folder, 3 * sum(spec.nbytes for spec in merge_specs(shapes)) // 2)
    random_merge_source(shapes, folder)
    linears = linears_of(shapes)
    weights = []
    for linear in linears:
        out, inner = linear.out_features, linear.in_features
        kind = QUANTISED[policy.precision]
        weights.append(TensorSpec(f"{linear.name}.weight", kind, (out, inner)))
        weights.append(TensorSpec(f"{linear.name}.scale", rest, (out,)))
    blocks = 1 + max(linear.block for linear in linears)
    experts = shapes.mot.num_experts
    table = np.random.default_rng(0).dirichlet(np.ones(experts), blocks).astype(np.float32)
    start = time.perf_counter()
    save_weight_set(folder, folder, weights, Route("route", table, 1, 0.0))
    return [
        Figure(f"{len(linears)} linears ({policy.variant})", "s", time.perf_counter() - start),
        Figure("peak resident set", "MB", peak_resident_mb()),
        Figure("size", "MB", (folder / "route.safetensors").stat().st_size / 1e6),
    ]


def _leave_free(folder: Path, wanted: int) -> None:
    free = disk_usage(folder).free
    if free - wanted < FREE:
        raise EngineError(
            f"{folder} has {free / 2**30:.0f} GiB free; the case takes {wanted / 2**30:.0f} GiB "
            f"and leaves {FREE / 2**30:.0f} GiB alone: give another folder by --work"
        )


def main(arguments: Sequence[str]) -> None:
    """The worker."""
    case, model, parent = arguments
    from a2edit.bench.reference import quiet
    from a2edit.model.weightless import shapes_of

    quiet()
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        figures = run_case(case, shapes_of(model), Path(folder))
    sys.stdout.write(json.dumps([asdict(figure) for figure in figures]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

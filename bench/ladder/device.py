"""The ladder of the denoiser at any size on one device, its floor, and what stages take.

Rungs are measured one after the other: of a full-size model a GPU holds one at a time. Nothing else
is to run on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from a2edit.bench.ladder.classes import seconds_by_kind
from a2edit.bench.ladder.floor import Rates, eight_bits_of, measured_rates
from a2edit.bench.ladder.flops import Flops, step_flops
from a2edit.bench.ladder.random_model import random_model
from a2edit.bench.ladder.rungs import Ladder, Rung
from a2edit.bench.ladder.steps import WARM_UP, Changes, Denoiser
from a2edit.bench.rows import Row, Setup
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import make_graphs
from a2edit.model.weightless import shapes_of
from a2edit.runtime.errors import TargetError

if TYPE_CHECKING:  # which brings Triton
    from a2edit.bench.ladder.merging import Merging

Note = Callable[[str], None]
# What the papers give for one A100-80GB, 50 steps at 1,024 pixels.
PUBLISHED_SECONDS, PUBLISHED_MIB = 30.0, 42_074


@dataclass(frozen=True, slots=True)
class Plan:
    """What to climb: a model's shapes with random weights in bf16, on `device`."""

    model: str
    device: str
    rounds: int
    steps: int


@dataclass(frozen=True, slots=True)
class Climbed:
    """What was found.

    Attributes:
        ladder: of the denoiser's whole loop.
        flops: of one step.
        rates: of this device.
        stages: peak of each stage in MB with everything resident, as the papers' set-up runs.
        kinds: seconds of a step of the last rung, by kind of kernel.
        merging: of a route into 8 bits, on a GPU.
    """

    ladder: Ladder
    flops: Flops
    rates: Rates
    stages: Mapping[str, float]
    kinds: Mapping[str, float]
    merging: Merging | None

    def rows(self, setup: Setup) -> list[Row]:
        rows = self.ladder.rows(setup)
        floors = {
            "no 8 bits": self.rates.seconds(self.flops, narrow=False),
            "linears in 8 bits": self.rates.seconds(self.flops, narrow=True),
        }
        for what, seconds in floors.items():
            rows.append(setup.row(f"floor of a step, {what}", "ms", [1e3 * seconds]))
        rows.append(setup.row("largest product", "GFLOP/s", [self.rates.plain / 1e9]))
        rows.append(setup.row("largest product in 8 bits", "GFLOP/s", [self.rates.narrow / 1e9]))
        last = self.ladder.rungs[-1]
        for rung in self.ladder.rungs:
            for what, floor in floors.items():
                share = [100 * floor / seconds for seconds in rung.steps]
                rows.append(setup.row(f"{rung.name}, floor ({what}) / step", "%", share))
        for stage, peak in self.stages.items():
            rows.append(setup.row(f"everything resident, peak in {stage}", "MB", [peak]))
        for kind, seconds in self.kinds.items():
            rows.append(setup.row(f"{last.name}, {kind} of a step", "ms", [1e3 * seconds]))
        return rows + (self.merging.rows(setup) if self.merging else [])


def climb(plan: Plan, note: Note) -> Climbed:
    """Make the model, and measure every rung that the device has.

    Raises:
        TargetError: there is no such device here.
        CheckpointError: there is no such model.
    """
    device = _device(plan.device)
    note("random weights")
    checkpoint = random_model(shapes_of(plan.model), device, torch.bfloat16, seed=0)
    rates = measured_rates(device, torch.bfloat16)
    denoiser = Denoiser(checkpoint, device, plan.steps)
    merging = None
    if device.type == "cuda":
        from a2edit.bench.ladder.merging import measure_merging

        note("a route merged into 8 bits")
        fp8 = eight_bits_of(device) == torch.float8_e4m3fn
        merging = measure_merging(checkpoint, denoiser.table, device, plan.rounds, fp8=fp8)
    rungs: list[Rung] = []
    stages: dict[str, float] = {}
    with Changes() as changes:
        for change in changes.all():
            if change.only not in {None, device.type}:
                continue
            note(f"{change.name}: making it")
            change.apply(denoiser)
            denoiser.run(min(WARM_UP, plan.steps))
            if not rungs:
                stages = _stages(checkpoint, denoiser)
            _reset_peak(device)
            note(f"{change.name}: {plan.rounds} rounds of {plan.steps} steps")
            runs = [denoiser.run()[1] for _ in range(plan.rounds)]
            rungs.append(
                Rung(
                    name=change.name,
                    runs=runs,
                    steps=[seconds / plan.steps for seconds in runs],
                    peak_mb=_peak_mb(device),
                )
            )
        note("kinds of kernels")
        kinds = seconds_by_kind(denoiser)
    flops = step_flops(plan.model)
    ladder = Ladder(rungs, flops.all, f"{plan.steps} steps", "peak in the loop")
    return Climbed(ladder, flops, rates, stages, kinds, merging)


def setup_on(setup: Setup, device: str) -> Setup:
    """Rows of a GPU name it, and its driver's CUDA."""
    place = _device(device)
    if place.type != "cuda":
        return setup
    name = torch.cuda.get_device_name(place)
    return replace(setup, device=name, versions=f"{setup.versions}; CUDA {torch.version.cuda}")


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise TargetError(
            "--device cuda: torch finds no NVIDIA GPU here; use --device cpu with a small model, "
            "or a machine with a GPU and a torch for it"
        )
    return torch.device(name)


@torch.inference_mode()
def _stages(checkpoint: Checkpoint, denoiser: Denoiser) -> dict[str, float]:
    """Run every stage with everything resident: its peak in MB, where that can be told."""
    device, found = denoiser.device, {}
    for name, graph in make_graphs(checkpoint).items():
        _reset_peak(device)
        if name == "dit":
            denoiser.run(1)
        else:
            dtype = next(graph.parameters()).dtype
            inputs = (part.to(device) for part in graph.example_inputs())
            with torch.autocast(device.type, dtype):  # bytes come in, and are floats within
                graph.to(device)(*inputs)
        peak = _peak_mb(device)
        if peak is not None:
            found[name] = peak
    return found


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _peak_mb(device: torch.device) -> float | None:
    """What torch's allocator held at most; a processor's peak is of the whole process."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None


def beside_published(climbed: Climbed) -> str:
    """The last rung beside what the papers give; one GPU is not the other."""
    last = climbed.ladder.rungs[-1]
    peak = "not told" if last.peak_mb is None else f"{last.peak_mb / 1.048576:.0f} MiB"
    return (
        f"{last.name}: {min(last.runs):.3g} s, peak in the loop {peak}; the papers give "
        f"{PUBLISHED_SECONDS:.0f} s for 50 steps and {PUBLISHED_MIB:,} MiB on one A100-80GB"
    )

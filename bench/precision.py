"""What 8 bits cost: velocities and pictures, before ranges and factors were chosen and after.

Simulated in torch, in fp32 around the quantised linears: the arithmetic of a weight set and of an
engine's roundings, but no engine. A build verifies its engines by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a2edit.calibration.choice import EightBitPolicy, choose
from a2edit.calibration.evidence import Evidence
from a2edit.calibration.gram import checkpoint_metric
from a2edit.calibration.policy import TOLERANCE, Kind
from a2edit.calibration.probe import VelocityProbe, quantised
from a2edit.calibration.ranges import denoised
from a2edit.calibration.routes import DEFAULT_ROUTES, cluster_routes
from a2edit.calibration.samples import HELD_OUT, EncodedSample, calibration_requests, encode
from a2edit.calibration.smoothing import InputRange
from a2edit.export.held_out import compared_steps
from a2edit.export.pixels import ZoneFigures, Zones, by_zone
from a2edit.export.steps.calibrate import MARGIN, RANGE_SAMPLES, VERIFY_SAMPLES
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import DitGraph, GraphModule, ModulationGraph, make_graphs

Progress = Callable[[str, int, int], None]
KINDS: tuple[Kind, ...] = ("int8", "fp8")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        samples: held-out requests, each run to its picture.
        calibration: requests whose gate tables routes are made from.
        kinds: of 8 bits.
    """

    samples: int = 6
    calibration: int = 64
    kinds: tuple[Kind, ...] = KINDS


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One way to quantise, measured.

    Attributes:
        kind: of 8 bits.
        name: "plain", "best settings" or "lifted".
        share: of the routed weights that are in 8 bits.
        errors: relative errors of the velocity, [samples, steps].
        pictures: a sample's likeness to fp32's picture, by zone.
    """

    kind: Kind
    name: str
    share: float
    errors: NDArray[np.float64]
    pictures: list[Mapping[str, ZoneFigures]]


@torch.no_grad()
def measure_precision(
    checkpoint: Checkpoint, plan: Plan, progress: Progress
) -> tuple[list[Stage], dict[Kind, EightBitPolicy]]:
    """Choose as a build does, then run held-out requests in every stage."""
    graphs = make_graphs(checkpoint)
    dit = graphs["dit"]
    assert isinstance(dit, DitGraph)
    found = _evidence(checkpoint, graphs, dit, plan, progress)
    policies: dict[Kind, EightBitPolicy] = {}
    for kind in plan.kinds:
        policies[kind] = choose(checkpoint, dit, found, TOLERANCE[kind] * MARGIN, kind)
        progress("choices", len(policies), len(plan.kinds))
    ways = {
        (kind, name): ranges
        for kind, policy in policies.items()
        for name, ranges in (
            ("plain", policy.tried["plain"]),
            ("best settings", policy.tried["best"]),
            ("lifted", policy.ranges),
        )
    }
    errors: dict[tuple[Kind, str], list[list[float]]] = {way: [] for way in ways}
    pictures: dict[tuple[Kind, str], list[Mapping[str, ZoneFigures]]] = {way: [] for way in ways}
    requests = list(calibration_requests(checkpoint, None, HELD_OUT, plan.samples))
    for place, (sample, (_, request)) in enumerate(
        zip(encode(graphs, requests), requests, strict=True)
    ):
        run = _Run(checkpoint, dit, graphs["vae_decoder"], sample, request["mask"], place)
        for done, (way, ranges) in enumerate(ways.items(), 1):
            errors[way].append(run.errors(ranges))
            pictures[way].append(run.likeness(ranges))
            progress("held-out requests", place * len(ways) + done, plan.samples * len(ways))
    stages = [
        Stage(*way, _share(checkpoint, ranges), np.array(errors[way]), pictures[way])
        for way, ranges in ways.items()
    ]
    return stages, policies


def _evidence(
    checkpoint: Checkpoint,
    graphs: Mapping[str, GraphModule],
    dit: DitGraph,
    plan: Plan,
    progress: Progress,
) -> Evidence:
    samples: list[EncodedSample] = []
    requests = calibration_requests(checkpoint, None, 0, plan.calibration)
    for sample in encode(graphs, requests):
        samples.append(sample)
        progress("calibration requests", len(samples), plan.calibration)
    routes = cluster_routes(
        np.stack([sample.table for sample in samples]),
        [sample.category for sample in samples],
        checkpoint_metric(checkpoint),
        DEFAULT_ROUTES,
    )
    steps = compared_steps(checkpoint.config.steps)
    chosen = samples[VERIFY_SAMPLES:RANGE_SAMPLES]
    return Evidence.gather(checkpoint, dit, chosen, routes, steps)


class _Run:
    """One held-out request: its true velocities, and its picture in fp32."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        dit: DitGraph,
        decoder: GraphModule,
        sample: EncodedSample,
        mask: Tensor,
        seed: int,
    ) -> None:
        self._checkpoint, self._dit, self._decoder = checkpoint, dit, decoder
        self._steps = range(checkpoint.config.steps)
        self._table = torch.from_numpy(sample.table)
        self._probe = VelocityProbe(checkpoint, dit, sample, seed, self._steps)
        self._levels = sample.levels(checkpoint.config.steps).tolist()
        self._inputs = next(denoised(checkpoint, dit, sample, seed))[0]
        self._modulation, self._pooled = ModulationGraph(checkpoint), sample.feeds["pooled"]
        self._picture = self._painted({})
        region = mask[0, :, -checkpoint.config.size :].numpy()
        self._zones = Zones.of(region)

    def errors(self, ranges: Mapping[str, InputRange]) -> list[float]:
        """Of the velocity, a step."""
        return [self._probe.error(ranges, {step}) for step in self._steps]

    def likeness(self, ranges: Mapping[str, InputRange]) -> Mapping[str, ZoneFigures]:
        """Of the picture at the loop's end, before anything is pasted back."""
        return by_zone(self._painted(ranges), self._picture, self._zones)

    def _painted(self, ranges: Mapping[str, InputRange]) -> NDArray[np.uint8]:
        latents, *tokens = self._inputs[:4]
        config = self._checkpoint.config
        with quantised(self._checkpoint, self._table, ranges):
            for high, low in pairwise(self._levels):
                scalars = torch.tensor([high]), torch.tensor([config.guidance])
                modulation = self._modulation(self._pooled, *scalars)
                latents = self._dit(latents, *tokens, modulation, torch.tensor([low - high]))
        pixels: NDArray[np.uint8] = self._decoder(latents)[0].numpy()
        return pixels


def _share(checkpoint: Checkpoint, ranges: Mapping[str, InputRange]) -> float:
    sizes = {it.name: it.in_features * it.out_features for it in checkpoint.linears}
    return sum(sizes[name] for name in ranges) / sum(sizes.values())

"""What a choice of 8-bit linears is measured on: requests, probes of their velocities, routes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from a2edit.calibration.probe import VelocityProbe
from a2edit.calibration.routes import Route
from a2edit.calibration.samples import EncodedSample
from a2edit.calibration.sharing import RouteRun, run_route
from a2edit.calibration.smoothing import InputRange, Setting
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import DitGraph

# Requests that settings and lifted linears are chosen by: two are off from one another by a tenth.
PROBES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a choice is measured on.

    Attributes:
        checkpoint, dit: the model, and its denoiser.
        samples: to take ranges from.
        probes: what settings and lifted linears are chosen by, each at its sample's own table.
        routes: whose tables keep the bound too.
        steps: those that every probe has.
    """

    checkpoint: Checkpoint
    dit: DitGraph
    samples: Sequence[EncodedSample]
    probes: Sequence[VelocityProbe]
    routes: Sequence[Route]
    steps: Collection[int]

    @classmethod
    def gather(
        cls,
        checkpoint: Checkpoint,
        dit: DitGraph,
        samples: Sequence[EncodedSample],
        routes: Sequence[Route],
        steps: Collection[int],
    ) -> Evidence:
        """Run the first samples at their own tables."""
        probes = [
            VelocityProbe(checkpoint, dit, sample, seed, steps)
            for seed, sample in enumerate(samples[:PROBES])
        ]
        return cls(checkpoint, dit, samples, probes, routes, steps)

    def error(self, ranges: Mapping[str, InputRange], steps: Collection[int]) -> float:
        """The largest relative error of the velocity, over the probes."""
        return max(probe.error(ranges, steps) for probe in self.probes)

    def base_error(self, names: Collection[str], steps: Collection[int]) -> float:
        """The same with the base of the linears in `names` in 8 bits."""
        return max(probe.base_error(names, steps) for probe in self.probes)

    def run_routes(
        self, ranges: Mapping[str, InputRange], settings: Mapping[str, Setting]
    ) -> dict[str, RouteRun]:
        """The last sample at every route's table, and how ranges that were made in `settings` fit.

        Routes run one after the other: what a route's linears read is in memory for that long.
        """
        last = len(self.samples) - 1
        return {
            route.name: run_route(
                self.checkpoint,
                self.dit,
                route,
                self.samples[last],
                last,
                self.steps,
                ranges,
                settings,
            )
            for route in self.routes
        }

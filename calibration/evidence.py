"""What a choice of 8-bit linears is measured on: requests, probes of their velocities, routes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from a2edit.calibration.probe import VelocityProbe
from a2edit.calibration.routes import Route
from a2edit.calibration.samples import EncodedSample
from a2edit.calibration.sharing import RouteRun, run_routes
from a2edit.calibration.smoothing import InputRange
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import DitGraph

# Requests that settings and lifted linears are chosen by: two are off from one another by a tenth.
PROBES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a choice is measured on.

    Attributes:
        samples: to take ranges from.
        probes: what settings and lifted linears are chosen by, each at its sample's own table.
        routes: runs at the tables of routes, which keep the bound too.
        steps: those that every probe has.
    """

    samples: Sequence[EncodedSample]
    probes: Sequence[VelocityProbe]
    routes: Mapping[str, RouteRun]
    steps: Collection[int]

    @classmethod
    def gather(
        cls,
        checkpoint: Checkpoint,
        dit: DitGraph,
        samples: Sequence[EncodedSample],
        routes: Iterable[Route],
        steps: Collection[int],
    ) -> Evidence:
        """Run the first samples at their own tables, and the last one at every route's."""
        probes = [
            VelocityProbe(checkpoint, dit, sample, seed, steps)
            for seed, sample in enumerate(samples[:PROBES])
        ]
        runs = run_routes(checkpoint, dit, routes, samples[-1], len(samples) - 1, steps)
        return cls(samples, probes, runs, steps)

    def error(self, ranges: Mapping[str, InputRange], steps: Collection[int]) -> float:
        """The largest relative error of the velocity, over the probes."""
        return max(probe.error(ranges, steps) for probe in self.probes)

    def route_error(self, ranges: Mapping[str, InputRange]) -> float:
        """The same over the routes and all steps."""
        errors = [run.probe.error(ranges, self.steps) for run in self.routes.values()]
        return max(errors, default=0.0)

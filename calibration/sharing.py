"""Does one calibration hold for every route? Ranges are constants of the one graph of all routes.

Its own weights change what a route's linears read. Here every route is run at its own table, with
the ranges that were taken from the calibration set's tables and with ranges taken from that very
run: no other ranges could serve it better.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from a2edit.calibration.probe import VelocityProbe
from a2edit.calibration.ranges import recorded
from a2edit.calibration.routes import Route
from a2edit.calibration.samples import EncodedSample
from a2edit.calibration.smoothing import InputRange, Setting
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import DitGraph


@dataclass(frozen=True, slots=True)
class RouteFit:
    """How the shared ranges fit one route.

    Attributes:
        error: largest relative error of its velocity with the shared ranges.
        own: the same with ranges of its own, which share the factors.
        clipped: largest share of a linear's inputs that the shared ranges cut off.
        linear: that linear; "" where nothing is quantised.
    """

    error: float
    own: float
    clipped: float
    linear: str


@dataclass(frozen=True, slots=True, eq=False)
class RouteRun:
    """One sample run at a route's table: the truth, and how ranges fit what its linears read.

    What was counted itself is not kept: 0.7 GB a route at full size.

    Attributes:
        probe: to ask for errors.
        peaks: of every linear that has a range, what its range would be if it were the route's own.
        clipped: of the same, the share of inputs that the shared range cuts off.
    """

    probe: VelocityProbe
    peaks: Mapping[str, float]
    clipped: Mapping[str, float]


def run_route(
    checkpoint: Checkpoint,
    dit: DitGraph,
    route: Route,
    sample: EncodedSample,
    seed: int,
    steps: Collection[int],
    ranges: Mapping[str, InputRange],
    settings: Mapping[str, Setting],
) -> RouteRun:
    """Run a sample at a route's table.

    Args:
        checkpoint: base and experts.
        dit: its denoiser.
        route: whose table to run at.
        sample: the request.
        seed: of its noise.
        steps: those that errors can be asked for at.
        ranges: shared ones, of every linear that may be quantised.
        settings: that they were made in.
    """
    with recorded(checkpoint) as spreads:
        probe = VelocityProbe(checkpoint, dit, sample, seed, steps, route.table)
    peaks, clipped = {}, {}
    for name, how in ranges.items():
        peaks[name] = spreads[name].represented(how.smooth, settings[name].share)
        clipped[name] = spreads[name].beyond(how.smooth, how.peak)
    return RouteRun(probe, peaks, clipped)


def fit(run: RouteRun, ranges: Mapping[str, InputRange], steps: Collection[int]) -> RouteFit:
    """Measure shared ranges on a route: those of the linears that are quantised in the end."""
    own = {name: replace(how, peak=run.peaks[name]) for name, how in ranges.items()}
    clipped = {"": 0.0} | {name: run.clipped[name] for name in ranges}
    worst = max(clipped, key=lambda name: clipped[name])
    probe = run.probe
    return RouteFit(probe.error(ranges, steps), probe.error(own, steps), clipped[worst], worst)

"""Does one calibration hold for every route? Ranges are constants of the one graph of all routes.

Its own weights change what a route's linears read. Here every route is run at its own table, with
the ranges that were taken from the calibration set's tables and with ranges taken from that very
run: no other ranges could serve it better.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from a2edit.calibration.probe import VelocityProbe
from a2edit.calibration.ranges import InputSpread, recorded
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
    """One sample run at a route's table: the truth, and what its linears read."""

    probe: VelocityProbe
    spreads: Mapping[str, InputSpread]


def run_routes(
    checkpoint: Checkpoint,
    dit: DitGraph,
    routes: Iterable[Route],
    sample: EncodedSample,
    seed: int,
    steps: Collection[int],
) -> dict[str, RouteRun]:
    """Run a sample at every route's table; `steps` are those that errors can be asked for at."""
    runs = {}
    for route in routes:
        with recorded(checkpoint) as spreads:
            probe = VelocityProbe(checkpoint, dit, sample, seed, steps, route.table)
        runs[route.name] = RouteRun(probe, spreads)
    return runs


def fit(
    run: RouteRun,
    ranges: Mapping[str, InputRange],
    settings: Mapping[str, Setting],
    steps: Collection[int],
) -> RouteFit:
    """Measure shared ranges on a route.

    Args:
        run: of the route.
        ranges: shared ones, of every linear that is quantised.
        settings: that they were made in.
        steps: to compare velocities at.
    """
    own, clipped = {}, {"": 0.0}
    for name, how in ranges.items():
        spread = run.spreads[name]
        own[name] = replace(how, peak=spread.represented(how.smooth, settings[name].share))
        clipped[name] = spread.beyond(how.smooth, how.peak)
    worst = max(clipped, key=lambda name: clipped[name])
    probe = run.probe
    return RouteFit(probe.error(ranges, steps), probe.error(own, steps), clipped[worst], worst)

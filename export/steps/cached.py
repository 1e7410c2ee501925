"""The step cache: what skipping costs on a route, and what pictures it makes of held-out requests.

A cache is told from its engines by what it changes: the picture with it beside the picture without
it, of the same engines' types and the same route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from a2edit.export.files import read_json, write_json
from a2edit.export.held_out import HeldOut, Truth
from a2edit.export.quality import Figure, Likeness, likeness, painted, velocity_error
from a2edit.export.steps.calibrate import VERIFY_SAMPLES, read_samples
from a2edit.runtime.manifest import CACHE_KIND, StepCacheEntry
from a2edit.runtime.step_cache import CachedDenoiser, SkipRule

if TYPE_CHECKING:
    from a2edit.export.pixels import Pixels
    from a2edit.export.source import Source
    from a2edit.runtime.engines.base import Engine

SLOPE_FILE = "slope.json"
# The velocity's relative error that a skipped step may be predicted to have, unless told otherwise.
DEFAULT_THRESHOLD = 0.08
# Requests whose loops are run on each route.
CACHE_SAMPLES = 3
# A picture that the cache changes by more in the mask is told of.
LEAST_PSNR_DB = 30


def save_slope(folder: Path, source: Source, traces: Path, table: NDArray[np.float32]) -> None:
    """slope.json: the error over the change on a route, and all that it was read off.

    On other requests than the engines are verified on, where there are as many.
    """
    from a2edit.calibration.step_cache import skip_costs, slope
    from a2edit.model.step_cache import DitHeadGraph, DitTailGraph

    checkpoint = source.checkpoint
    head, tail = DitHeadGraph(checkpoint).eval(), DitTailGraph(checkpoint).eval()
    samples = read_samples(traces, VERIFY_SAMPLES + CACHE_SAMPLES)
    samples = samples[VERIFY_SAMPLES:] or samples
    costs = [
        cost
        for seed, sample in enumerate(samples)
        for cost in skip_costs(checkpoint, head, tail, sample, seed, table)
    ]
    write_json(
        folder / SLOPE_FILE, {"slope": slope(costs), "costs": [asdict(cost) for cost in costs]}
    )


def cache_entry(threshold: float | None, folders: Mapping[str, Path]) -> StepCacheEntry:
    """What the manifest says, from the folders that `save_slope` wrote to, by route."""
    from a2edit.calibration.step_cache import WINDOW

    return StepCacheEntry(
        kind=CACHE_KIND,
        threshold=threshold or DEFAULT_THRESHOLD,
        most_skipped=WINDOW,
        slopes={route: read_json(it / SLOPE_FILE)["slope"] for route, it in folders.items()},
    )


@dataclass(frozen=True, slots=True)
class CacheFigure(Figure):
    """A route with the cache: the error is that of whole steps in two, without skipping any.

    Attributes:
        skipped: share of all steps.
        pictures: with the cache against without, as in `RouteFigure`; no reason to fail.
        least_psnr_db: in the mask; below it a picture is told of.
    """

    skipped: float
    pictures: Mapping[str, Likeness]
    least_psnr_db: float

    @property
    def told(self) -> str:
        """What an edit with the cache is to say; empty where it changes little."""
        found = self.pictures["mask"].psnr_db
        if found >= self.least_psnr_db:
            return ""
        return f"{found:.1f} dB in the mask, below {self.least_psnr_db:g} dB"

    def to_dict(self) -> dict[str, Any]:
        return {
            "relative_error": self.error,
            "tolerance": self.tolerance,
            "skipped": self.skipped,
            "pictures": {zone: asdict(found) for zone, found in self.pictures.items()},
            "least_psnr_db": self.least_psnr_db,
        }


def cache_figure(
    halves: tuple[Engine, Engine],
    modulation: Engine,
    decoder: Engine,
    rule: SkipRule,
    samples: Sequence[HeldOut],
    truths: Sequence[Truth],
    pictures: Sequence[Pixels],
    tolerance: float,
) -> CacheFigure:
    """A route with the cache on held-out requests, its weights bound to head and tail.

    Args:
        halves: head and tail.
        modulation: of any backend.
        decoder: of any backend.
        rule: when a step does without the tail.
        samples: requests.
        truths: of the same requests, at the route's table.
        pictures: what the route paints without the cache: u8 [S,S,3].
        tolerance: largest relative error of the velocity.
    """
    whole = CachedDenoiser(*halves, None, 1)
    pairs = zip(samples, truths, strict=True)
    errors = [velocity_error(whole, modulation, it.feeds, truth) for it, truth in pairs]
    error = float(np.max(errors))
    denoiser = CachedDenoiser(*halves, rule, len(truths[0].levels) - 1)
    found = painted(denoiser, modulation, decoder, samples, truths)
    wanted = [
        replace(truth, pixels=picture) for truth, picture in zip(truths, pictures, strict=True)
    ]
    skipped = round(denoiser.skipped / denoiser.steps_done, 3)
    return CacheFigure(error, tolerance, skipped, likeness(found, samples, wanted), LEAST_PSNR_DB)


def cache_section(threshold: float, figures: Mapping[str, CacheFigure]) -> dict[str, Any]:
    """What a verification says of the cache; "over" is what every edit with it is to say."""
    over = [
        f"with the step cache at {threshold:g}, route {route} differs from without: {figure.told}"
        for route, figure in figures.items()
        if figure.told
    ]
    routes = {route: figure.to_dict() for route, figure in figures.items()}
    return {"threshold": threshold, "routes": routes, **({"over": over} if over else {})}

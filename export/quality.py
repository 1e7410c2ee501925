"""Any engine against what the torch model makes: velocities, and the pictures at the loop's end.

Pictures are compared as the decoder gives them, before they are laid over the source: what lies
outside of the mask is then the source's own and equal whatever the engine does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2edit.export.held_out import HeldOut, Truth
from a2edit.export.pixels import ZONES, Pixels, Zones, by_zone
from a2edit.runtime.engines.base import OPEN, Array, Engine
from a2edit.runtime.sampler import CONTEXT, Denoiser, denoise, modulations


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured relative error beside what is allowed; rounded, so that rebuilds repeat."""

    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance  # False for NaN

    @property
    def over(self) -> str:
        return f"relative error {self.error:.1e}, allowed {self.tolerance:.0e}"

    def to_dict(self) -> dict[str, Any]:
        return {"relative_error": self.error, "tolerance": self.tolerance}


@dataclass(frozen=True, slots=True)
class Likeness:
    """The worst of several pictures over one zone; rounded, so that rebuilds repeat."""

    psnr_db: float
    ssim: float


@dataclass(frozen=True, slots=True)
class RouteFigure(Figure):
    """A route's largest velocity error, and its pictures.

    Attributes:
        pictures: by zone: "mask", "band" (16 pixels around it), "outside"; an empty one is left
            out.
        least_psnr_db: what every picture must reach in the mask.
    """

    pictures: Mapping[str, Likeness]
    least_psnr_db: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance and self._worst >= self.least_psnr_db

    @property
    def over(self) -> str:
        said = f"velocity error {self.error:.1e}, allowed {self.tolerance:.0e}"
        if self._worst >= self.least_psnr_db:
            return said
        return f"{said}; in the mask {self._worst:.1f} dB, {self.least_psnr_db:g} dB needed"

    @property
    def _worst(self) -> float:
        return self.pictures["mask"].psnr_db

    def to_dict(self) -> dict[str, Any]:
        pictures = {
            zone: {"psnr_db": found.psnr_db, "ssim": found.ssim}
            for zone, found in self.pictures.items()
        }
        about = {"pictures": pictures, "least_psnr_db": self.least_psnr_db}
        return {"relative_error": self.error, "tolerance": self.tolerance, **about}


def relative_error(found: Array, truth: Array) -> float:
    """‖found − truth‖ / ‖truth‖ in float64, to two digits."""
    wanted = truth.astype(np.float64)
    size = max(float(np.linalg.norm(wanted)), np.finfo(np.float64).tiny)
    return float(f"{np.linalg.norm(found.astype(np.float64) - wanted) / size:.1e}")


def graph_figure(
    engine: Engine, examples: Sequence[Mapping[str, Array]], tolerance: float
) -> Figure:
    """One engine on example inputs of its graph, beside the examples' outputs: the worst."""
    (output,) = engine.spec.outputs
    errors = []
    for example in examples:
        found = engine.run({spec.name: example[spec.name] for spec in engine.spec.inputs})
        errors.append(relative_error(found[output.name], example[output.name]))
    return Figure(float(np.max(errors)), tolerance)


def velocity_error(
    denoiser: Denoiser, modulation: Engine, feeds: Mapping[str, Array], truth: Truth
) -> float:
    """The largest relative error of the velocity at the compared steps, on a request's `feeds`.

    The denoiser sees the latents that the torch loop reaches, because late ones are nothing like
    noise: quantised activations err most there. Δσ = 1 makes its step x + v, so that v is read
    without the loss of a small step. It has the route's weights bound or baked in.
    """
    errors = []
    context = {name: feeds[name] for name in CONTEXT}
    given = modulations(modulation, feeds["pooled"], feeds["guidance"], truth.levels)
    for step, (latents, velocity) in truth.points.items():
        state = {
            "latents": latents,
            "modulation": given[step],
            "delta": np.ones(1, np.float32),
        }
        found = denoiser.run({**context, **state})["next_latents"]
        errors.append(relative_error(found - latents, velocity))
    return float(np.max(errors))  # NaN if one is


def painted(
    denoiser: Denoiser,
    modulation: Engine,
    decoder: Engine,
    samples: Sequence[HeldOut],
    truths: Sequence[Truth],
) -> list[Pixels]:
    """The pictures at the end of the whole loop from the truths' noise: u8 [S,S,3].

    Requests of one size run together where the engine takes several.
    """
    (latents,) = (spec for spec in denoiser.spec.inputs if spec.name == "latents")
    pictures: list[Pixels] = []
    for _, group in groupby(zip(samples, truths, strict=True), lambda pair: pair[1].noise.shape):
        alike = list(group)
        most = len(alike) if latents.shape[0] == OPEN else 1
        for first in range(0, len(alike), most):
            together = alike[first : first + most]
            pictures.extend(_painted(denoiser, modulation, decoder, together))
    return pictures


def _painted(
    denoiser: Denoiser,
    modulation: Engine,
    decoder: Engine,
    pairs: Sequence[tuple[HeldOut, Truth]],
) -> Iterable[Pixels]:
    """Of requests of one size, in one run."""
    feeds = {
        name: np.concatenate([sample.feeds[name] for sample, _ in pairs])
        for name in pairs[0][0].feeds
    }
    noise, levels = np.concatenate([truth.noise for _, truth in pairs]), pairs[0][1].levels
    given = modulations(modulation, feeds["pooled"], feeds["guidance"], levels)
    context = {name: feeds[name] for name in CONTEXT}
    latents = denoise(denoiser, context, noise, levels, given)
    return decoder.run({"latents": latents})["pixels"]


def target_panel(canvas: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The part of a canvas [H,Wc,…] that is painted: its last `size` columns."""
    return canvas[:, -size:]


def likeness(
    pictures: Sequence[Pixels], samples: Sequence[HeldOut], truths: Sequence[Truth]
) -> dict[str, Likeness]:
    """The worst PSNR and SSIM of `pictures` against the truths' over each zone."""
    figures = [
        by_zone(picture, truth.pixels, Zones.of(target_panel(sample.mask, picture.shape[1])))
        for picture, sample, truth in zip(pictures, samples, truths, strict=True)
    ]
    return {
        zone: Likeness(
            round(min(found[zone].psnr_db for found in figures if zone in found), 1),
            round(min(found[zone].ssim for found in figures if zone in found), 4),
        )
        for zone in ZONES
        if any(zone in found for found in figures)
    }


def route_figure(
    denoiser: Engine,
    modulation: Engine,
    decoder: Engine,
    samples: Sequence[HeldOut],
    truths: Sequence[Truth],
    *,
    tolerance: float,
    least_psnr_db: float,
) -> tuple[RouteFigure, list[Pixels]]:
    """A route on held-out requests, its weights bound or baked in; and what it painted.

    Args:
        denoiser: of any backend.
        modulation: of any backend.
        decoder: of any backend.
        samples: requests.
        truths: of the same requests, at the route's table.
        tolerance: largest relative error of the velocity.
        least_psnr_db: of every picture in its mask.
    """
    pairs = list(zip(samples, truths, strict=True))
    errors = [velocity_error(denoiser, modulation, it.feeds, truth) for it, truth in pairs]
    error = float(np.max(errors))
    pictures = painted(denoiser, modulation, decoder, samples, truths)
    found = likeness(pictures, samples, truths)
    return RouteFigure(error, tolerance, found, least_psnr_db), pictures

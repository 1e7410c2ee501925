"""How a linear's input becomes 8 bits: SmoothQuant's factors and clipped static ranges.

x·Wᵀ = (x / s)·(W·diag(s))ᵀ for any s > 0: factors move range from activations, which have one
static scale, into weights, which have one for every output channel (SmoothQuant, Xiao et al. 2023,
equation 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from a2edit.calibration.policy import Kind
from a2edit.calibration.ranges import InputSpread
from a2edit.kernels.reference import LEVELS

# Of a kind's values, as weight sets and graphs name them.
STORED: Mapping[Kind, str] = {"int8": "int8", "fp8": "float8_e4m3fn"}

_SMALLEST = 1e-4  # channels that are nearly always 0 would get factors without bound


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to quantise a linear's input.

    Attributes:
        alpha: share of the range that weights take over, 0 to 1; None: no smoothing.
        share: of |x / s| that is represented; what is larger is cut off. 1: nothing is.
    """

    alpha: float | None
    share: float


PLAIN = Setting(None, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class InputRange:
    """What a quantised linear does to its input.

    Attributes:
        kind: what it is rounded to.
        smooth: s [in], fp32.
        peak: largest |x / s| that is represented.
    """

    kind: Kind
    smooth: Tensor
    peak: float

    def quantised(self, x: Tensor) -> Tensor:
        """x as an engine sees it: rounded to 8 bits and back, still divided by s."""
        largest = LEVELS[STORED[self.kind]]
        step = self.peak / largest if self.peak > 0 else 1.0
        levels = x / self.smooth / step
        if self.kind == "int8":
            return levels.round().clamp(-largest - 1, largest) * step
        # An engine's conversion saturates; torch's makes what is too large NaN.
        return levels.clamp(-largest, largest).to(torch.float8_e4m3fn).to(x.dtype) * step


def input_range(
    spread: InputSpread,
    weights: Sequence[Tensor],
    parts: Sequence[int],
    kind: Kind,
    setting: Setting,
) -> InputRange:
    """The factors and the range of a setting.

    An input that is joined from parts of different ranges (SPEC §11.3) still has one scale: with
    two, compilers multiply in high precision. INT8's factors bring the parts to one range; E4M3's
    steps grow with the values, so that the largest range serves all.

    Args:
        spread: of x.
        weights: [out, in] of every linear that reads x.
        parts: widths of the pieces that x is joined from (`ranges.input_parts`).
        kind: what x is rounded to.
        setting: how far to smooth, and where to cut off.
    """
    smooth = torch.ones_like(spread.peaks)
    if setting.alpha is not None:
        columns = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0)
        ranges = spread.peaks.clamp_min(_SMALLEST) ** setting.alpha
        smooth = ranges / columns.clamp_min(_SMALLEST) ** (1 - setting.alpha)
        smooth = smooth / smooth.log().mean().exp()  # weights stay of their size
    peaks = [
        part.represented(factors, setting.share) for part, factors in spread.split(smooth, parts)
    ]
    peak = max(peaks)
    if kind == "int8" and peak > 0:
        ratios = [own / peak if own > 0 else 1.0 for own in peaks]
        smooth = smooth * torch.tensor(ratios).repeat_interleave(torch.tensor(tuple(parts)))
    return InputRange(kind, smooth, peak)

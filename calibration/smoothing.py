"""How a linear's input is quantised: SmoothQuant's factors and clipped static ranges.

x·Wᵀ = (x / s)·(W·diag(s))ᵀ for any s > 0: factors move range from activations, which have one
static scale, into weights, which have one for every output channel (SmoothQuant, Xiao et al. 2023,
equation 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from a2edit.kernels.reference import INT8_LEVELS

_SMALLEST = 1e-4  # channels that are nearly always 0 would get factors without bound


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to quantise a linear.

    Attributes:
        alpha: share of the range that weights take over, 0 to 1; None: no smoothing.
        clip: share of the largest |x / s| that is represented; what is larger is cut off.
    """

    alpha: float | None
    clip: float


# In the order in which they win when two are alike. On the embedded model a finer grid (alpha in
# steps of 0.15, clip of 0.15) finds nothing that is more than a tenth better for any linear.
SETTINGS = (Setting(None, 1.0), Setting(None, 0.6), Setting(0.5, 0.8), Setting(0.65, 0.8))


@dataclass(frozen=True, slots=True, eq=False)
class InputRange:
    """What a quantised linear does to its input.

    Attributes:
        smooth: s [in], fp32.
        peaks: largest |x / s| that is represented, one a part (`ranges.input_parts`).
    """

    smooth: Tensor
    peaks: tuple[float, ...]

    def quantised(self, x: Tensor, parts: Sequence[int]) -> Tensor:
        """x as an engine sees it: rounded to int8 and back, still divided by s."""
        levels = []
        for part, peak in zip((x / self.smooth).split(tuple(parts), -1), self.peaks, strict=True):
            step = peak / INT8_LEVELS if peak > 0 else 1.0
            levels.append((part / step).round().clamp(-INT8_LEVELS - 1, INT8_LEVELS) * step)
        return torch.cat(levels, -1)


def input_range(
    peaks: Tensor, weight: Tensor, parts: Sequence[int], setting: Setting
) -> InputRange:
    """The factors and ranges of a setting.

    Args:
        peaks: max|x| [in].
        weight: [out, in].
        parts: widths of the pieces of x that have a range each.
        setting: how far to smooth, and where to cut off.
    """
    smooth = torch.ones_like(peaks)
    if setting.alpha is not None:
        columns = weight.abs().amax(0).clamp_min(_SMALLEST)
        smooth = peaks.clamp_min(_SMALLEST) ** setting.alpha / columns ** (1 - setting.alpha)
        smooth = smooth / smooth.log().mean().exp()  # weights stay of their size
    largest = [float(part.max()) for part in (peaks / smooth).split(tuple(parts))]
    return InputRange(smooth, tuple(peak * setting.clip for peak in largest))

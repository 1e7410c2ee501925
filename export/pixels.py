"""How alike two pictures are, zone by zone: PSNR, SSIM and L1, which need no weights.

Pure functions of pictures u8 [H,W,3] and regions u8 [H,W] (255 = in the region); scikit-image's
SSIM is imported where it is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from a2edit.runtime.boxes import tight_box
from a2edit.runtime.regions import dilate

Bools = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

ZONES = ("mask", "band", "outside")
SSIM_WINDOW = 7
BAND = 16  # pixels around the mask
# Equal pictures have no finite ratio, and a table of means needs one.
PSNR_MOST = 100.0


@dataclass(frozen=True, slots=True)
class ZoneFigures:
    """How near an edit is to the truth over one zone of the picture."""

    psnr_db: float
    ssim: float
    l1: float  # mean absolute difference, grey levels of 255


@dataclass(frozen=True, slots=True, eq=False)
class Zones:
    """A picture cut in three by a mask: its inside, the band around it, and the rest."""

    mask: Bools
    band: Bools
    outside: Bools

    @classmethod
    def of(cls, region: Pixels, within: Bools | None = None) -> "Zones":
        """Zones of a region u8 [H,W]; `within` keeps to the pixels a model has painted."""
        inside = region >= 128
        near = dilate(inside, BAND)
        seen = np.ones_like(inside) if within is None else within
        return cls(inside & seen, near & ~inside & seen, ~near & seen)


def by_zone(
    first: Pixels, second: Pixels, zones: Zones, names: Sequence[str] = ZONES
) -> dict[str, ZoneFigures]:
    """PSNR, SSIM and L1 over the named zones that are not empty.

    SSIM is Wang's with a 7-pixel window on each channel, averaged over the zone's pixels: windows
    at its rim look a little beyond it.
    """
    wanted = {name: zone for name in names if (zone := getattr(zones, name)).any()}
    if not wanted:
        return {}
    # SSIM takes most of the time, so it is made only around the pixels that are asked for
    union = np.logical_or.reduce(list(wanted.values()))
    height, width = union.shape
    part = tight_box(union.astype(np.uint8) * np.uint8(255)).grown(SSIM_WINDOW)
    window = part.clipped(width, height).slices
    first, second = first[window], second[window]
    likeness = ssim_map(first, second)
    return {
        name: ZoneFigures(
            psnr_db=psnr_within(first, second, zone[window]),
            ssim=float(likeness[zone[window]].mean()),
            l1=float(np.abs(_gap(first, second, zone[window])).mean()),
        )
        for name, zone in wanted.items()
    }


def psnr_within(first: Pixels, second: Pixels, zone: Bools) -> float:
    """Peak signal to noise in dB over a zone, PSNR_MOST where nothing differs."""
    error = float(np.mean(_gap(first, second, zone) ** 2))
    return PSNR_MOST if error == 0 else min(PSNR_MOST, 10 * float(np.log10(255**2 / error)))


def ssim_map(first: Pixels, second: Pixels) -> npt.NDArray[np.float64]:
    """Structural similarity at every pixel, mean of the channels: [H,W]."""
    from skimage.metrics import structural_similarity

    _, likeness = structural_similarity(
        first, second, win_size=SSIM_WINDOW, channel_axis=2, data_range=255, full=True
    )
    mean: npt.NDArray[np.float64] = np.asarray(likeness, np.float64).mean(axis=2)
    return mean


def _gap(first: Pixels, second: Pixels, zone: Bools) -> npt.NDArray[np.float64]:
    gap: npt.NDArray[np.float64] = first[zone].astype(np.float64) - second[zone].astype(np.float64)
    return gap

"""The held-out figures: is the reference's colour in the region, and did the rest stay as it was?

Everything here is a pure function of pictures; `figures.py` says over which edits it is taken.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from a2edit.export.pixels import Pixels, psnr_within
from a2edit.runtime.boxes import Box, tight_box
from a2edit.runtime.masks import FEATHER
from a2edit.runtime.regions import dilate

Histogram = npt.NDArray[np.float64]

BINS = 8  # a channel: 32 grey levels, about what the eye calls another shade


def colour_histogram(colours: Pixels) -> Histogram:
    """Joint RGB histogram of u8 [n,3], summing to 1: [BINS**3].

    Every pixel is shared linearly between the eight nearest bins, so that a shade near the edge
    of a bin does not jump.
    """
    if colours.size == 0:
        raise ValueError("a colour histogram of no pixels: the region is empty")
    place = colours.astype(np.float64) / 255 * (BINS - 1)
    low = np.minimum(place.astype(np.int64), BINS - 2)
    part = place - low
    counts = np.zeros(BINS**3)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(np.asarray(corner) == 1, part, 1 - part), axis=1)
        index = low + np.asarray(corner)
        flat = (index[:, 0] * BINS + index[:, 1]) * BINS + index[:, 2]
        counts += np.bincount(flat, weights=weight, minlength=BINS**3)
    return counts / len(colours)


def histogram_distance(first: Histogram, second: Histogram) -> float:
    """Hellinger distance: 0 for the same colours, 1 for none in common."""
    overlap = float(np.sqrt(first * second).sum())
    return float(np.sqrt(max(0.0, 1.0 - overlap)))


def middle(box: Box) -> Box:
    """The middle half of a box along both sides: what is left when the rough rim is set aside."""
    across, down = box.width // 4, box.height // 4
    return Box(box.x0 + across, box.y0 + down, box.x1 - across, box.y1 - down)


def middle_colours(picture: Pixels, region: Pixels) -> Pixels:
    """Colours of u8 [H,W,3] in the middle of a region's box and inside it (u8 [H,W]): [n,3].

    A region with nothing in its middle, such as a ring, gives all of its pixels.
    """
    window = middle(tight_box(region)).slices
    inside = picture[window][region[window] >= 128]
    return inside if inside.size else picture[region >= 128]


def own_is_closer(
    edits: Sequence[Pixels], references: Sequence[Pixels]
) -> list[npt.NDArray[np.bool_]]:
    """Each edit's colours against every other reference's, both as u8 [n,3]; one array a case.

    True where the edit is strictly closer to its own reference than to that other one. A
    reference with the very colours of the own one (the same object again) is no comparison.
    """
    if len(edits) != len(references) or len(edits) < 2:
        raise ValueError(f"{len(edits)} edits, {len(references)} references: two or more pairs")
    painted = [colour_histogram(colours) for colours in edits]
    wanted = [colour_histogram(colours) for colours in references]
    verdicts = []
    for case, histogram in enumerate(painted):
        own = histogram_distance(histogram, wanted[case])
        verdicts.append(
            np.array(
                [
                    own < histogram_distance(histogram, other)
                    for other in wanted
                    if not np.array_equal(other, wanted[case])
                ],
                dtype=bool,
            )
        )
    return verdicts


def identical_outside(
    source: Pixels, edited: Pixels, region: Pixels, reach: int = FEATHER
) -> float:
    """Share of pixels further than `reach` from the region (u8 [H,W]) that no byte of changed."""
    if source.shape != edited.shape:
        raise ValueError(f"the edit is {edited.shape}, its source {source.shape}")
    outside = ~dilate(region >= 128, reach)
    if not outside.any():
        raise ValueError("the region with its seam covers the whole picture: nothing is outside")
    same = (source == edited).all(axis=-1)
    return float(same[outside].mean())


def psnr(first: Pixels, second: Pixels, region: Pixels) -> float:
    """Peak signal to noise in dB over the region (u8 [H,W]); PSNR_MOST for equal pictures."""
    return psnr_within(first, second, region >= 128)

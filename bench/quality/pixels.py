"""Edges, and what stayed as it was: metrics that need no weights, beside those by zone.

Pure functions of pictures u8 [H,W,3] and regions u8 [H,W] (255 = in the region); scikit-image's
Canny is imported where it is used.
"""

import numpy as np

from a2edit.export.pixels import Bools, Pixels
from a2edit.runtime.boxes import tight_box
from a2edit.runtime.masks import FEATHER
from a2edit.runtime.regions import dilate

CANNY_SIGMA = 1.5
EDGE_TOLERANCE = 2  # pixels that an edge may lie beside the truth's


def edge_f1(first: Pixels, second: Pixels, region: Pixels) -> float:
    """F1 of the edges of `first` against those of `second` inside a region, 0 to 1.

    Canny's edges; one counts as found within EDGE_TOLERANCE pixels. Two flat pictures agree.
    """
    height, width = region.shape
    window = tight_box(region).grown(round(4 * CANNY_SIGMA)).clipped(width, height).slices
    inside = region[window] >= 128
    edges, truth = (edge_map(picture[window]) & inside for picture in (first, second))
    if not edges.any() or not truth.any():
        return float(edges.any() == truth.any())
    precision = float(dilate(truth, EDGE_TOLERANCE)[edges].mean())
    recall = float(dilate(edges, EDGE_TOLERANCE)[truth].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def edge_map(picture: Pixels) -> Bools:
    """Canny's edges of the grey picture, thresholds fixed so that pictures can be compared."""
    from skimage.feature import canny

    grey = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    found: Bools = canny(grey, sigma=CANNY_SIGMA, low_threshold=8, high_threshold=20)
    return found


def identical_share(first: Pixels, second: Pixels, region: Pixels) -> float | None:
    """Share of pixels beyond a region and its seam that are the same; None if there are none."""
    outside = ~dilate(region >= 128, FEATHER)
    same = (first == second).all(axis=-1)[outside]
    return float(same.mean()) if same.size else None

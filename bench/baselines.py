"""What the figures say of two answers that need no model: the floor and the ceiling."""

import numpy as np
from PIL import Image

from a2edit.bench.figures import Edited, reference_colours, region_of
from a2edit.bench.heldout.cases import Case
from a2edit.runtime.boxes import Box
from a2edit.runtime.request import EditResult


def mean_colour(case: Case) -> Edited:
    """The region filled with the reference's mean colour."""
    region = region_of(case)
    picture = np.asarray(case.scene).copy()
    picture[region >= 128] = reference_colours(case).mean(axis=0).round()
    return _as_edited(case, Image.fromarray(picture))


def pasted(case: Case) -> Edited:
    """The object pasted at its place: perfect colours, and a perfect copy."""
    return _as_edited(case, case.truth())


def _as_edited(case: Case, picture: Image.Image) -> Edited:
    result = EditResult(
        image=picture,
        route="none",
        predicted_error=0.0,
        seed=0,
        steps=0,
        timings={},
        gate_weights=np.zeros((0, 0), np.float32),
        bundle_hash="",
        window=Box(0, 0, picture.width, picture.height),
    )
    return Edited(case, result, region_of(case), 0.0)

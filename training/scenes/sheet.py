"""Contact sheets of drawn samples, for looking at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from a2edit.training.scenes.sample import Sample


def contact_sheet(samples: Sequence[Sample], columns: int = 4) -> Image.Image:
    """Every sample as reference, scene and scene with the object greyed, side by side."""
    cells = []
    for sample in samples:
        hole = np.where(sample.scene_mask[..., None] >= 128, np.uint8(128), sample.scene)
        cells.append(np.concatenate([sample.reference, sample.scene, hole], 1))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]
    return Image.fromarray(np.concatenate(rows, 0))

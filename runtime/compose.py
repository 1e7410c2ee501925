"""Paste the generated window back, in source resolution (SPEC §7)."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from a2edit.runtime.boxes import Box, tight_box
from a2edit.runtime.images import Pixels
from a2edit.runtime.layout import resize_picture
from a2edit.runtime.masks import FEATHER, feathered
from a2edit.runtime.prepare import Prepared


def compose(prepared: Prepared, generated: Pixels, feather: int = FEATHER) -> Image.Image:
    """The edited picture: RGB, or RGBA where the source has transparency.

    `generated` is the target's u8 [S,S,3]. With m the feathered mask (0 outside of the window),
    out = source (1 - m) + generated m; every pixel with m = 0 is the source's, bit for bit,
    colour under transparency included. Where m > 0 the edit lies over the source, so it is
    opaque inside of the mask.
    """
    height, width = prepared.source_mask.shape
    window = prepared.window
    # what can change: the mask and its seam, as far as there is an edit to show
    reach = tight_box(prepared.source_mask).grown(feather)
    area = Box(
        max(reach.x0, window.x0, 0),
        max(reach.y0, window.y0, 0),
        min(reach.x1, window.x1, width),
        min(reach.y1, window.y1, height),
    )
    local = Box(area.x0 - window.x0, area.y0 - window.y0, area.x1 - window.x0, area.y1 - window.y0)
    edit = resize_picture(generated, window.width, window.height)[local.slices]
    weight = feathered(prepared.source_mask[area.slices], feather)

    out = prepared.source.copy()
    if prepared.alpha is None:
        out[area.slices] = blend(out[area.slices], edit, weight)
        image = Image.fromarray(out)
    else:
        alpha = prepared.alpha.copy()
        out[area.slices], alpha[area.slices] = blend_over(
            out[area.slices], alpha[area.slices], edit, weight
        )
        image = Image.fromarray(np.dstack([out, alpha]))
    if prepared.icc:
        image.info["icc_profile"] = prepared.icc
    return image


def blend(source: Pixels, edit: Pixels, weight: Pixels) -> Pixels:
    """source (1 - m) + edit m, rounded: u8 [h,w,3] twice and the weight m u8 [h,w].

    The largest sum is 255 * 255 + 127, which uint16 holds: exact, and equal to the source or
    the edit at both ends.
    """
    m = weight.astype(np.uint16)[..., None]
    mixed: NDArray[np.uint16] = (
        source * (np.uint16(255) - m) + edit * m + np.uint16(127)
    ) // np.uint16(255)
    return mixed.astype(np.uint8)


def blend_over(
    source: Pixels, alpha: Pixels, edit: Pixels, weight: Pixels
) -> tuple[Pixels, Pixels]:
    """The edit with opacity m over a source with opacity `alpha` (Porter-Duff "over")."""
    m = weight.astype(np.uint32)
    below = alpha * (255 - m)  # what is left of the source, of 255 * 255
    total = np.maximum(below + 255 * m, 1)
    shares = below[..., None], (255 * m)[..., None]
    mixed: NDArray[np.uint16] = (
        source * shares[0] + edit * shares[1] + total[..., None] // 2
    ) // total[..., None]
    touched = weight > 0
    colour = np.where(touched[..., None], mixed, source).astype(np.uint8)
    return colour, np.where(touched, (total + 127) // 255, alpha).astype(np.uint8)

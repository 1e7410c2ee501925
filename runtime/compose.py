"""Paste the generated window back, in source resolution (SPEC §7)."""

import numpy as np
from PIL import Image

from a2edit.runtime.boxes import Box
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
    inside = window.clipped(width, height)
    fitted = resize_picture(generated, window.width, window.height)
    local = Box(
        inside.x0 - window.x0,
        inside.y0 - window.y0,
        inside.x1 - window.x0,
        inside.y1 - window.y0,
    )
    edit = fitted[local.slices].astype(np.int32)
    weight = feathered(prepared.source_mask[inside.slices], feather).astype(np.int32)[..., None]
    source = prepared.source[inside.slices].astype(np.int32)

    out = prepared.source.copy()
    if prepared.alpha is None:
        out[inside.slices] = (source * (255 - weight) + edit * weight + 127) // 255
        image = Image.fromarray(out)
    else:
        opacity = prepared.alpha[inside.slices].astype(np.int32)[..., None]
        under = opacity * (255 - weight)  # share of the source, of 255 * 255
        total = np.maximum(under + 255 * weight, 1)
        blend = (source * under + edit * 255 * weight + total // 2) // total
        out[inside.slices] = np.where(weight > 0, blend, source)
        alpha = prepared.alpha.copy()
        over = np.where(weight > 0, (total + 127) // 255, opacity)
        alpha[inside.slices] = over[..., 0]
        image = Image.fromarray(np.dstack([out, alpha]))
    if prepared.icc:
        image.info["icc_profile"] = prepared.icc
    return image

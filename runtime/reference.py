"""Where the object is in its reference picture (SPEC §7)."""

import numpy as np
from PIL import Image

from a2edit.runtime.errors import RequestError
from a2edit.runtime.images import ImageSource, Picture, Pixels
from a2edit.runtime.masks import load_mask
from a2edit.runtime.regions import flood

# A border counts as plain if this share of its pixels lies within PLAIN levels of its median
# colour; ground is what joins it within GROUND levels (JPEG and soft shadows need some room).
PLAIN_SHARE = 0.8
PLAIN = 12
GROUND = 20
LEAST_OBJECT = 0.002  # of the picture; less is noise on an empty picture
SEARCH = 1024  # longer side at which ground is told from object


def object_mask(
    reference: Picture, source: ImageSource | None = None, *, resize: bool = False
) -> Pixels:
    """The object's opacity, u8 [H,W], 255 = object, in this order of trust:

    1. the mask that was given (white, or the opaque part of a transparent one);
    2. the picture's own alpha channel;
    3. what differs from a plain border and is not joined to it;
    4. the whole picture.
    """
    if source is not None:
        return load_mask(
            source,
            "reference mask",
            reference.size,
            of=reference.name,
            resize=resize,
            transparent="object",
        )
    if reference.alpha is not None:
        if not (reference.alpha >= 128).any():
            raise RequestError(
                f"{reference.name} is transparent everywhere: "
                "give a picture whose object is opaque, or a reference mask"
            )
        return reference.alpha
    return object_on_plain_ground(reference.rgb)


def object_on_plain_ground(picture: Pixels) -> Pixels:
    """u8 [H,W,3] -> u8 [H,W]: 0 on the plain ground that joins the border, 255 elsewhere.

    All 255 where the border is not plain, or nothing is left but ground.
    """
    height, width = picture.shape[:2]
    whole = np.full((height, width), 255, np.uint8)
    scale = min(1.0, SEARCH / max(height, width))
    small_size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(picture).resize(small_size, Image.Resampling.BOX))
    edge = np.zeros(small.shape[:2], np.bool_)
    edge[[0, -1], :] = True
    edge[:, [0, -1]] = True
    border = small[edge].astype(np.int16)
    colour = np.median(border, axis=0)
    if (np.abs(border - colour).max(axis=1) <= PLAIN).mean() < PLAIN_SHARE:
        return whole
    ground = flood(np.abs(small - colour).max(axis=2) <= GROUND, edge)
    if (~ground).mean() < LEAST_OBJECT:
        return whole
    mask = Image.fromarray(np.where(ground, np.uint8(0), np.uint8(255)))
    if mask.size == (width, height):
        return np.asarray(mask)
    return np.asarray(mask.resize((width, height), Image.Resampling.BILINEAR))

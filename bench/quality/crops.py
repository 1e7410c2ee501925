"""Squares to look at, for networks and people: around the object, and the reference on white."""

import numpy as np
from PIL import Image

from a2edit.bench.quality.subject import Subject
from a2edit.export.pixels import Pixels
from a2edit.runtime.boxes import Box, tight_box

MARGIN = 0.1  # around the object, of its longer side


def object_square(picture: Pixels, shape: Pixels, margin: float = MARGIN) -> Image.Image:
    """The square around an object's place, what is beside it included: u8 [H,W,3] -> RGB.

    The place is the truth's, so all kinds of masks and all methods are looked at alike. Beyond
    the picture its edge goes on.
    """
    height, width = shape.shape
    box = tight_box(shape)
    side = round(max(box.width, box.height) * (1 + 2 * margin))
    x0, y0 = (box.x0 + box.x1 - side) // 2, (box.y0 + box.y1 - side) // 2
    window = Box(x0, y0, x0 + side, y0 + side)
    inside = window.clipped(width, height)
    border = (
        (inside.y0 - window.y0, window.y1 - inside.y1),
        (inside.x0 - window.x0, window.x1 - inside.x1),
        (0, 0),
    )
    return Image.fromarray(np.pad(picture[inside.slices], border, mode="edge"))


def reference_square(subject: Subject) -> Image.Image:
    """The reference's object in the middle of a white square, with the same margin."""
    rgb, alpha = subject.object_pixels()
    box = tight_box(alpha)
    side = round(max(box.width, box.height) * (1 + 2 * MARGIN))
    square = Image.new("RGB", (side, side), (255, 255, 255))
    place = (side - box.width) // 2, (side - box.height) // 2
    square.paste(Image.fromarray(rgb[box.slices]), place, Image.fromarray(alpha[box.slices]))
    return square

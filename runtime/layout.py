"""What the model sees: the reference's panel, the diptych, the image encoder's square.

Pure functions on u8 arrays. Training draws its samples through the same ones, so that a picture
is laid out alike at both ends.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from a2edit.runtime.boxes import Box, tight_box
from a2edit.runtime.errors import RequestError

Pixels = NDArray[np.uint8]

__all__ = [
    "Box",
    "Pixels",
    "diptych",
    "fit_reference",
    "reference_panel",
    "reference_square",
    "resize_picture",
    "tight_box",
]


def resize_picture(picture: Pixels, width: int, height: int) -> Pixels:
    """u8 [h,w,3] -> u8 [height,width,3] by Lanczos; the same array where nothing changes."""
    if picture.shape[:2] == (height, width):
        return picture
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def cut_out(reference: Pixels, reference_mask: Pixels) -> Pixels:
    """The object's tight crop on white: u8 [h,w,3]; a soft mask (0..255) blends softly."""
    if reference.shape[:2] != reference_mask.shape:
        raise RequestError(
            f"the reference is {reference.shape[1]}x{reference.shape[0]} and its mask "
            f"{reference_mask.shape[1]}x{reference_mask.shape[0]}: both must have one size"
        )
    crop = tight_box(reference_mask).slices
    opacity = reference_mask[crop].astype(np.uint16)[..., None]
    blend = reference[crop] * opacity + 255 * (255 - opacity)
    return ((blend.astype(np.uint32) + 127) // 255).astype(np.uint8)


def contain(picture: Pixels, width: int, height: int) -> Pixels:
    """Resize to fit into width x height, keeping the aspect ratio; never below one pixel."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    fitted_width = min(width, max(1, round(picture.shape[1] * scale)))
    fitted_height = min(height, max(1, round(picture.shape[0] * scale)))
    return resize_picture(picture, fitted_width, fitted_height)


def _paste_centred(panel: Pixels, picture: Pixels, box: Box) -> None:
    top = box.y0 + (box.height - picture.shape[0]) // 2
    left = box.x0 + (box.width - picture.shape[1]) // 2
    panel[top : top + picture.shape[0], left : left + picture.shape[1]] = picture


def fit_reference(reference: Pixels, reference_mask: Pixels, box: Box, size: int) -> Pixels:
    """The left panel of the "aligned" placement: u8 [size,size,3].

    The object, cut out on white, fills `box` (the mask's tight box in the target panel) as far
    as its aspect ratio allows, centred: where it lies on the left is where it belongs on the
    right.
    """
    if not box.inside(size, size):
        raise RequestError(f"box {box} lies outside the {size}x{size} panel")
    panel = np.full((size, size, 3), 255, np.uint8)
    _paste_centred(panel, contain(cut_out(reference, reference_mask), box.width, box.height), box)
    return panel


def reference_square(
    reference: Pixels, reference_mask: Pixels, size: int, margin: float = 0.1
) -> Pixels:
    """The object on a white square with `margin` of the side free all around: u8 [size,size,3].

    This is the picture for the image encoder (SPEC §2, "reference": pad to square).
    """
    free = round(size * margin)
    inner = Box(free, free, size - free, size - free)
    return fit_reference(reference, reference_mask, inner, size)


def reference_panel(
    reference: Pixels, reference_mask: Pixels, box: Box, size: int, placement: str
) -> Pixels:
    """The left panel for a checkpoint's `reference_placement`: "aligned" or "centred"."""
    if placement == "aligned":
        return fit_reference(reference, reference_mask, box, size)
    if placement == "centred":
        return reference_square(reference, reference_mask, size, margin=0.0)
    raise RequestError(f"reference_placement {placement!r} is unknown: aligned or centred")


def diptych(panel: Pixels, scene: Pixels, mask: Pixels) -> tuple[Pixels, Pixels]:
    """Panel and scene u8 [S,S,3], mask u8 [S,S] -> canvas u8 [S,2S,3], its mask u8 [S,2S].

    The reference stands on the left and is never repainted: its half of the mask is 0.
    """
    if panel.shape != scene.shape or scene.shape[:2] != mask.shape:
        raise RequestError(
            "panel, scene and mask must have one size, "
            f"got {panel.shape}, {scene.shape} and {mask.shape}"
        )
    canvas = np.concatenate([panel, scene], axis=1)
    return canvas, np.concatenate([np.zeros_like(mask), mask], axis=1)

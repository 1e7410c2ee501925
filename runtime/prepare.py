"""From a request to the model's pictures: read, mask, crop a window, lay out (SPEC §7)."""

from dataclasses import dataclass

import numpy as np

from a2edit.runtime.boxes import Box, tight_box
from a2edit.runtime.errors import RequestError
from a2edit.runtime.images import Picture, Pixels, load_picture
from a2edit.runtime.layout import diptych, reference_panel, reference_square, resize_picture
from a2edit.runtime.masks import FEATHER, boxes_mask, fill_outline, load_mask, resize_mask
from a2edit.runtime.reference import object_mask
from a2edit.runtime.request import EditRequest
from a2edit.runtime.spec import ModelSpec

# The object fills between 1/SIDE_MOST and 1/SIDE_LEAST of the window's side where the image
# allows it; where the object leaves less room than that, a quarter more than it needs.
SIDE_LEAST = 1.45
SIDE_MOST = 1.9
SIDE_TIGHT = 1.25


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One edit, laid out. W is 2S in the diptych layout, S in redux."""

    canvas: Pixels  # [S, W, 3], the reference's panel and the window
    mask: Pixels  # [S, W], 255 = repaint; 0 on the reference's panel
    reference: Pixels  # [R, R, 3], for the image encoder
    window: Box  # square, in source pixels; may reach outside of a small image
    source: Pixels  # [H, W, 3], as stored
    source_mask: Pixels  # [H, W], 0 or 255
    alpha: Pixels | None = None  # [H, W] of the source
    icc: bytes | None = None  # colour profile of the source

    @property
    def size(self) -> int:
        """S"""
        return int(self.canvas.shape[0])


def prepare(request: EditRequest, model: ModelSpec) -> Prepared:
    """Lay out `request` for `model`; raises RequestError for what cannot be edited."""
    size = model.chosen(request.size)
    scene = load_picture(request.image, "image")
    source_mask = _region(request, scene)
    reference = load_picture(request.reference, "reference")
    reference_mask = object_mask(reference, request.reference_mask, resize=request.resize_mask)
    # under a given mask the picture counts as it looks; under its own alpha, as it is stored
    object_rgb = reference.rgb if request.reference_mask is None else reference.on_white()

    window = context_window(tight_box(source_mask), *scene.size, size)
    picture, mask = crop_window(scene.on_white(), source_mask, window, size)
    if model.layout == "diptych":
        panel = reference_panel(
            object_rgb, reference_mask, tight_box(mask), size, model.reference_placement
        )
        picture, mask = diptych(panel, picture, mask)
    return Prepared(
        canvas=picture,
        mask=mask,
        reference=reference_square(object_rgb, reference_mask, model.reference_size),
        window=window,
        source=scene.rgb,
        source_mask=source_mask,
        alpha=scene.alpha,
        icc=scene.icc,
    )


def _region(request: EditRequest, scene: Picture) -> Pixels:
    """Mask and boxes of the request together: u8 [H,W]."""
    width, height = scene.size
    region = boxes_mask([Box.of(box) for box in request.boxes], width, height, scene.name)
    if request.mask is not None:
        mask = load_mask(
            request.mask, "mask", scene.size, of=scene.name, resize=request.resize_mask
        )
        region = np.maximum(region, fill_outline(mask))
    return region


def context_window(box: Box, width: int, height: int, size: int) -> Box:
    """The square around `box` (a mask's tight box) that the model sees, in source pixels.

    The image's short side, held between 1.45 and 1.9 times the object's longer side, so that the
    object fills a half to two thirds of it: a token is 16 pixels, and an object of few tokens has
    few details. An object too big for that gets the short side as a
    whole; one that is longer than the short side gets a square that reaches past the image,
    and is padded. Never less than a quarter of the working size, nor without room for the seam.
    The window is centred on the object, and then moved into the image.
    """
    longer, short, long = max(box.width, box.height), min(width, height), max(width, height)
    least = max(longer + 2 * (FEATHER + 2), size // 4)
    side = max(min(max(short, SIDE_LEAST * longer), SIDE_MOST * longer), least)
    if side > short:
        side = max(short, min(SIDE_TIGHT * longer, long), min(least, long))
    side = round(side)
    x0 = _start(box.x0 + box.x1, side, width)
    y0 = _start(box.y0 + box.y1, side, height)
    return Box(x0, y0, x0 + side, y0 + side)


def _start(twice_centre: int, side: int, length: int) -> int:
    if side > length:
        return (length - side) // 2
    return min(max((twice_centre - side) // 2, 0), length - side)


def crop_window(picture: Pixels, mask: Pixels, window: Box, size: int) -> tuple[Pixels, Pixels]:
    """Cut `window` out and scale it: u8 [S,S,3] and u8 [S,S].

    Outside of the image the picture goes on with its edge pixels, and the mask is empty.
    """
    height, width = mask.shape
    inside = window.clipped(width, height)
    border = (
        (inside.y0 - window.y0, window.y1 - inside.y1),
        (inside.x0 - window.x0, window.x1 - inside.x1),
    )
    cut = np.pad(picture[inside.slices], (*border, (0, 0)), mode="edge")
    cut_mask = np.pad(mask[inside.slices], border)
    if not cut_mask.any():
        raise RequestError(f"the window {window} holds nothing of the mask")
    return resize_picture(cut, size, size), resize_mask(cut_mask, size, size)

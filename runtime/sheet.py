"""Contact sheets: scene with mask, reference, edit, and which experts woke."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from a2edit.runtime.images import Pixels, load_picture
from a2edit.runtime.layout import contain
from a2edit.runtime.regions import dilate
from a2edit.runtime.request import EditRequest, EditResult

SIDE = 256
GAP = 12
CAPTION = 22
INK, PAPER = (40, 40, 40), (255, 255, 255)
TINT = np.array([230, 60, 60], np.float32)
TITLES = ("scene and mask", "reference", "edit", "experts by block")


def sheet_row(request: EditRequest, result: EditResult) -> Image.Image:
    """One edit as four panels and a caption; the result must come from `Editor.edit`."""
    if result.prepared is None:
        raise ValueError("the result does not hold its prepared pictures")
    prepared = result.prepared
    source = load_picture(request.image, "image").on_white()
    panels = (
        Image.fromarray(_square(masked(source, prepared.source_mask))),
        Image.fromarray(_square(load_picture(request.reference, "reference").on_white())),
        Image.fromarray(_square(load_picture(result.image, "edit").on_white())),
        expert_map(result.gate_weights, SIDE),
    )
    row = Image.new("RGB", (len(panels) * (SIDE + GAP) + GAP, SIDE + CAPTION + GAP), PAPER)
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(13)
    for index, panel in enumerate(panels):
        row.paste(panel, (GAP + index * (SIDE + GAP), 0))
    caption = (
        f"{request.prompt or 'no prompt'}   route {result.route}, "
        f"predicted error {result.predicted_error:.1%}, seed {result.seed}, {result.steps} steps"
    )
    draw.text((GAP, SIDE + 3), caption, INK, font)
    return row


def contact_sheet(rows: Sequence[Image.Image]) -> Image.Image:
    """Rows of `sheet_row` under each other, below the panels' titles."""
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, CAPTION + sum(row.height for row in rows)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, title in enumerate(TITLES):
        draw.text((GAP + index * (SIDE + GAP), 3), title, INK, font)
    top = CAPTION
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def masked(picture: Pixels, mask: Pixels) -> Pixels:
    """The picture with the region of `mask` tinted and outlined: u8 [H,W,3]."""
    region = mask >= 128
    line = dilate(region, max(1, max(region.shape) // 300)) & ~region
    shown = picture.astype(np.float32)
    shown[region] = 0.55 * shown[region] + 0.45 * TINT
    shown[line] = TINT
    return shown.astype(np.uint8)


def expert_map(gate_weights: NDArray[np.float32], side: int) -> Image.Image:
    """Blocks downwards, experts to the right; the darker, the more weight; inactive is white."""
    blocks, experts = gate_weights.shape
    top = max(float(gate_weights.max()), 1e-6)
    image = Image.new("RGB", (side, side), PAPER)
    draw = ImageDraw.Draw(image)
    for block in range(blocks):
        for expert in range(experts):
            weight = float(gate_weights[block, expert]) / top
            corner = expert * side // experts, block * side // blocks
            opposite = (expert + 1) * side // experts - 1, (block + 1) * side // blocks - 1
            colour = tuple(round(255 - weight * (255 - c)) for c in (30, 90, 160))
            draw.rectangle((*corner, *opposite), colour, (225, 225, 225))
    return image


def _square(picture: Pixels) -> Pixels:
    fitted = contain(picture, SIDE, SIDE)
    panel = np.full((SIDE, SIDE, 3), 245, np.uint8)
    top, left = (SIDE - fitted.shape[0]) // 2, (SIDE - fitted.shape[1]) // 2
    panel[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return panel

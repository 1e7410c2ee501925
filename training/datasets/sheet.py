"""A contact sheet of a data set: a row a category, of scene with mask, reference and target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from a2edit.runtime.images import Pixels
from a2edit.runtime.layout import contain
from a2edit.runtime.sheet import masked
from a2edit.training.datasets.uniedit import Entry

_SIDE, _GAP, _LINE = 160, 8, 18
_INK, _FAINT = (40, 40, 40), (130, 130, 130)
TITLES = ("scene and mask", "reference", "target")


def dataset_sheet(picks: Mapping[str, Sequence[Entry]]) -> Image.Image:
    """Samples by category as one picture; raises DataError for a sample that cannot be decoded."""
    columns = max((len(entries) for entries in picks.values()), default=0)
    group = len(TITLES) * _SIDE + _GAP
    sheet = Image.new(
        "RGB",
        (_GAP + columns * (group + _GAP), _LINE + len(picks) * (_SIDE + 2 * _LINE + _GAP)),
        "white",
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column in range(columns):
        for place, title in enumerate(TITLES):
            left = _GAP + column * (group + _GAP) + place * _SIDE
            draw.text((left, 2), title, _FAINT, font)
    top = _LINE
    for category in sorted(picks):
        draw.text((_GAP, top + 2), category, _INK, font)
        for column, entry in enumerate(picks[category]):
            left = _GAP + column * (group + _GAP)
            panels, caption = _panels(entry)
            for place, panel in enumerate(panels):
                sheet.paste(Image.fromarray(panel), (left + place * _SIDE, top + _LINE))
            draw.text((left, top + _LINE + _SIDE + 2), caption, _FAINT, font)
        top += _SIDE + 2 * _LINE + _GAP
    return sheet


def _panels(entry: Entry) -> tuple[tuple[Pixels, ...], str]:
    sample = entry.sample()
    record = sample.record
    scene, mask = sample.picture("src"), sample.mask("src")
    panels = (masked(scene, mask), sample.picture("ref"), scene)
    caption = f"{record.id} · {record.split} · {record.prompt or record.subcategory}"
    longest = len(TITLES) * _SIDE // 6
    short = caption if len(caption) <= longest else f"{caption[: longest - 1]}…"
    return tuple(_square(panel) for panel in panels), short


def _square(picture: Pixels) -> Pixels:
    inner = _SIDE - 2
    fitted = contain(picture, inner, inner)
    panel = np.full((_SIDE, _SIDE, 3), 245, np.uint8)
    top, left = (_SIDE - fitted.shape[0]) // 2, (_SIDE - fitted.shape[1]) // 2
    panel[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return panel

"""A gate table as a picture: blocks downwards, experts to the right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from a2edit.export.svg import number, tag, text, title

_CELL = 22.0
_LEFT, _TOP, _BELOW = 40.0, 34.0, 30.0
# A table of the full-size model has 57 rows: flatter cells, and a number at every fifth.
_TALL = 24


def heat_map(table: NDArray[np.floating], *, axes: bool = True) -> str:
    """An SVG of weights [L, N]: the stronger, the more of the page's accent; 0 shows the ground.

    Classes for the page's style: `ground` and `on` (cells), `tick` and `label` (text). Without
    axes it fills whatever space it is given.
    """
    blocks, experts = table.shape
    top = max(float(table.max()), 1e-6)
    if not axes:
        cells = _cells(table, top, 1.0, 1.0, 0.0, 0.0)
        box = {"viewBox": f"0 0 {experts} {blocks}", "preserveAspectRatio": "none"}
        return tag("svg", cells, role="img", aria_label=_LABEL, **box)
    height, every = (_CELL * 0.72, 1) if blocks <= _TALL else (_CELL * 0.36, 5)
    across, down = experts * _CELL, blocks * height
    parts = [_cells(table, top, _CELL, height, _LEFT, _TOP)]
    for expert in range(experts):
        place = _LEFT + (expert + 0.5) * _CELL
        parts.append(_text(str(expert), place, _TOP - 5, "tick middle"))
    parts += [
        _text(str(block), _LEFT - 5, _TOP + (block + 0.5) * height + 4, "tick end")
        for block in range(0, blocks, every)
    ]
    parts.append(_text("expert", _LEFT + across / 2, 12, "label middle"))
    turned = f"rotate(-90 10 {number(_TOP + down / 2)})"
    middle = {"x": 10.0, "y": _TOP + down / 2, "class_": "label middle", "transform": turned}
    parts.append(tag("text", "block", **middle))
    parts.append(_scale(top, _LEFT, _TOP + down + 10, across))
    wide, high = _LEFT + across + 4, _TOP + down + _BELOW
    return tag(
        "svg",
        "".join(parts),
        viewBox=f"0 0 {number(wide)} {number(high)}",
        class_="map",
        role="img",
        aria_label=_LABEL,
    )


_LABEL = "weight of each expert in each block"


def _cells(
    table: NDArray[np.floating], top: float, width: float, height: float, x: float, y: float
) -> str:
    cells = []
    for block, row in enumerate(table.tolist()):
        for expert, weight in enumerate(row):
            place: dict[str, str | float] = {
                "x": x + (expert + 0.04) * width,
                "y": y + (block + 0.04) * height,
                "width": 0.92 * width,
                "height": 0.92 * height,
            }
            cells.append(tag("rect", **place, class_="ground"))
            if weight > 0:
                told = title(f"block {block}, expert {expert}: {weight:.3f}")
                shade = f"{weight / top:.3f}"
                cells.append(tag("rect", told, **place, class_="on", opacity=shade))
    return "".join(cells)


def _scale(top: float, x: float, y: float, width: float) -> str:
    """What the colours mean: from 0 to the table's largest weight."""
    steps = 8
    bar = [
        tag("rect", class_="on", x=x + 24 + place * 8, y=y, width=8.0, height=8.0,
            opacity=f"{(place + 1) / steps:.3f}")
        for place in range(steps)
    ]  # fmt: skip
    return (
        _text("0", x + 18, y + 8, "tick end")
        + "".join(bar)
        + _text(f"{top:.2f}", x + 30 + steps * 8, y + 8, "tick")
        + _text("weight", x + width, y + 8, "label end")
    )


def _text(value: str, x: float, y: float, kind: str) -> str:
    return tag("text", text(value), x=x, y=y, class_=kind)

"""Pictures on a bundle's page: what torch paints, what engines paint, and the difference."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from a2edit.export.pixels import Pixels
from a2edit.export.svg import tag, text
from a2edit.runtime.sheet import masked

AMPLIFIED = 8
_MOST = 320  # pixels of a picture's longer side on the page


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One held-out request.

    Attributes:
        category: of the scene.
        route: whose weights painted it.
        scene, mask, reference: u8 [S,S,3], [S,S], [R,R,3].
        truth: what torch paints with experts unmerged, u8 [S,S,3].
        painted: by target, u8 [S,S,3].
    """

    category: str
    route: str
    scene: Pixels
    mask: Pixels
    reference: Pixels
    truth: Pixels
    painted: Mapping[str, Pixels]


def gallery(rows: Sequence[Shown], about: Mapping[str, str]) -> str:
    """A row a request; `about` says of a target what its denoiser computes in."""
    return "".join(_row(shown, about) for shown in rows)


def amplified(first: Pixels, second: Pixels) -> Pixels:
    """|first − second| times AMPLIFIED, cut off at white."""
    gap = np.abs(first.astype(np.int32) - second.astype(np.int32)) * AMPLIFIED
    return np.minimum(gap, 255).astype(np.uint8)


def _row(shown: Shown, about: Mapping[str, str]) -> str:
    cells = [
        _cell(masked(shown.scene, shown.mask), "scene and mask"),
        _cell(shown.reference, "reference"),
        _cell(shown.truth, "PyTorch, fp32"),
    ]
    for target, painted in shown.painted.items():
        gap = amplified(painted, shown.truth)
        largest = int(gap.max()) // AMPLIFIED
        said = f"up to {largest} of 255" if gap.max() < 255 else f"{largest} of 255 or more"
        cells.append(_cell(painted, f"{target}, {about[target]}"))
        cells.append(_cell(gap, f"difference × {AMPLIFIED}", said))
    head = f"<h3>{text(shown.category)} <span>route {text(shown.route)}</span></h3>"
    return head + tag("div", "".join(cells), class_="shots")


def _cell(picture: Pixels, name: str, more: str = "") -> str:
    caption = text(name) + (tag("span", text(more)) if more else "")
    return tag(
        "figure",
        f'<img src="{_data(picture)}" alt="{text(name)}">' + tag("figcaption", caption),
    )


def _data(picture: Pixels) -> str:
    image = Image.fromarray(picture)
    if max(image.size) > _MOST:
        share = _MOST / max(image.size)
        image = image.resize((round(image.width * share), round(image.height * share)))
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"

"""Floods, dilation, outlines: against brute force, and by shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from a2edit.runtime.regions import dilate, enclosed, fill_outline, flood

Bools = NDArray[np.bool_]
bools = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))


def drawn(size: int = 200) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("1", (size, size))
    return image, ImageDraw.Draw(image)


@given(bools, st.randoms())
def test_flood_is_a_flood(free: Bools, random: object) -> None:
    rng = np.random.default_rng(random.randrange(1 << 30))  # type: ignore[attr-defined]
    seeds = rng.random(free.shape) < 0.2
    reached = free & seeds
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= free
        if (grown == reached).all():
            break
        reached = grown
    np.testing.assert_array_equal(flood(free, seeds), reached)


@given(bools, st.integers(0, 9))
def test_dilation_is_a_square_brush(mask: Bools, radius: int) -> None:
    expected = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        rows = slice(max(y - radius, 0), y + radius + 1)
        expected[rows, max(x - radius, 0) : x + radius + 1] = True
    np.testing.assert_array_equal(dilate(mask, radius), expected)


@given(bools)
def test_filling_never_loses_and_is_idempotent_on_holes(mask: Bools) -> None:
    filled = fill_outline(mask)
    assert (filled >= mask).all()
    assert not enclosed(np.pad(filled, 1)).any()


SHAPES = {
    "circle": lambda d, **k: d.ellipse((30, 40, 160, 170), **k),
    "rectangle": lambda d, **k: d.rectangle((30, 40, 160, 120), **k),
    "triangle": lambda d, **k: d.polygon(((30, 160), (100, 30), (170, 150)), **k),
    "irregular": lambda d, **k: d.polygon(
        ((30, 60), (90, 30), (120, 70), (170, 60), (150, 160), (90, 130), (40, 170)), **k
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_means_its_inside(shape: str) -> None:
    """The four free shapes of FlexEdit, filled and as outlines."""
    full, draw = drawn()
    SHAPES[shape](draw, fill=1, outline=1, width=3)
    line, draw = drawn()
    SHAPES[shape](draw, fill=0, outline=1, width=3)
    want, got = np.array(full), fill_outline(np.array(line))
    np.testing.assert_array_equal(fill_outline(want), want)
    assert (want ^ got).mean() < 0.001


@pytest.mark.parametrize("gap", [2, 8, 20, 35])
def test_a_gap_is_bridged(gap: int) -> None:
    line, draw = drawn()
    draw.arc((30, 30, 170, 170), gap / 2, 360 - gap / 2, fill=1, width=4)
    full, draw = drawn()
    draw.ellipse((30, 30, 170, 170), fill=1)
    want, got = np.array(full), fill_outline(np.array(line))
    assert (want & got).sum() > 0.95 * want.sum()
    assert (got & ~want).sum() < 0.03 * want.sum()


def test_a_half_circle_at_the_edge_is_closed_by_it() -> None:
    line, draw = drawn()
    draw.ellipse((-60, 40, 80, 180), outline=1, width=4)
    got = fill_outline(np.array(line))
    assert got[110, 5]
    assert got[110, 60]
    assert not got[110, 120]
    assert not got[20, 20]


def test_a_corner_is_closed_by_both_edges() -> None:
    line, draw = drawn()
    draw.ellipse((120, 120, 280, 280), outline=1, width=4)
    got = fill_outline(np.array(line))
    assert got[195, 195]
    assert not got[50, 50]


@pytest.mark.parametrize("box", [(0, 90, 199, 110), (90, 0, 94, 199), (0, 0, 199, 20)])
def test_a_band_stays_a_band(box: tuple[int, int, int, int]) -> None:
    band, draw = drawn()
    draw.rectangle(box, fill=1)
    np.testing.assert_array_equal(fill_outline(np.array(band)), np.array(band))


def test_a_solid_scribble_stays_and_its_hole_is_filled() -> None:
    scribble, draw = drawn()
    draw.line(((40, 150), (80, 60), (110, 140), (150, 50)), fill=1, width=26, joint="curve")
    solid = np.array(scribble)
    np.testing.assert_array_equal(fill_outline(solid), solid)
    holed = solid.copy()
    holed[95:99, 70:74] = False
    np.testing.assert_array_equal(fill_outline(holed), solid | holed)


def test_a_straight_stroke_stays() -> None:
    stroke, draw = drawn()
    draw.line((20, 30, 180, 150), fill=1, width=5)
    np.testing.assert_array_equal(fill_outline(np.array(stroke)), np.array(stroke))


@pytest.mark.parametrize("cell", [1, 2, 5])
def test_large_outlines_are_decided_in_cells(cell: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a2edit.runtime.regions.SEARCH", 200 // cell)
    line, draw = drawn()
    draw.arc((30, 30, 170, 170), 8, 352, fill=1, width=4)
    full, draw = drawn()
    draw.ellipse((30, 30, 170, 170), fill=1)
    want, got = np.array(full), fill_outline(np.array(line))
    assert (want & got).sum() > 0.97 * want.sum()
    assert not (got & ~dilate(want, cell)).any()
    np.testing.assert_array_equal(fill_outline(want), want)

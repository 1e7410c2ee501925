"""Edges are found where they are, and a changed pixel is seen."""

import numpy as np
import pytest

from a2edit.bench.quality.pixels import edge_f1, identical_share
from a2edit.export.pixels import Pixels

pytest.importorskip("skimage")

HEIGHT, WIDTH = 96, 120


def disc(radius: int, shift: int = 0) -> Pixels:
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    inside = (rows - 48) ** 2 + (columns - 60 - shift) ** 2 < radius**2
    return np.where(inside[..., None], np.uint8(220), np.uint8(40)).repeat(3, axis=2)


def test_edges_count_within_two_pixels() -> None:
    everything = np.full((HEIGHT, WIDTH), 255, np.uint8)
    assert edge_f1(disc(20), disc(20), everything) == 1
    assert edge_f1(disc(20, 2), disc(20), everything) == 1
    near, far = edge_f1(disc(20, 5), disc(20), everything), edge_f1(disc(10), disc(26), everything)
    assert 0 < near < 1
    assert far == 0


def test_flat_pictures_have_the_same_edges_and_a_flat_edit_has_none(region: Pixels) -> None:
    flat = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    assert edge_f1(flat, flat, region) == 1
    assert edge_f1(flat, disc(12), region) == 0


def test_identical_share_sees_one_pixel_beyond_the_seam(picture: Pixels, region: Pixels) -> None:
    edited = picture.copy()
    edited[45, 50] ^= 255
    assert identical_share(edited, picture, region) == 1
    edited[0, 0, 1] ^= 1
    share = identical_share(edited, picture, region)
    assert identical_share(picture, picture, np.full(region.shape, 255, np.uint8)) is None
    assert share is not None
    assert 0.999 < share < 1

"""MATS masks: what moves and how far, what is contained, and that a seed repeats (SPEC §8)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from a2edit.runtime.errors import RequestError
from a2edit.runtime.layout import tight_box
from a2edit.runtime.masks import fill_outline
from a2edit.training.masks import (
    MaskMix,
    MaskStage,
    RoughSettings,
    box_mask,
    dilate,
    draw_mask,
    perlin,
    rough_mask,
    stage_mask,
)
from a2edit.training.shapes import FreeShape, Mask, free_shape, outlined, scribble

Maker = Callable[[Mask, np.random.Generator], Mask]
MAKERS: dict[str, Maker] = {
    "rough": rough_mask,
    "free": free_shape,
    "scribble": scribble,
    **{stage.name: partial(stage_mask, stage=stage) for stage in MaskStage},
}


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Ellipses and boxes, a few at a time, anywhere and over the edge, on 96 × 128 pixels."""
    height, width = 96, 128
    rows, columns = np.mgrid[0:height, 0:width]
    mask = np.zeros((height, width), np.uint8)
    for _ in range(draw(st.integers(1, 3))):
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        ry, rx = draw(st.integers(1, 30)), draw(st.integers(1, 30))
        u, v = abs(columns - x) / rx, abs(rows - y) / ry
        inside = u**2 + v**2 <= 1 if draw(st.booleans()) else np.maximum(u, v) <= 1
        mask[inside] = 255
    return mask


def disk(size: int = 256, radius: int = 50) -> Mask:
    rows, columns = np.mgrid[0:size, 0:size] - size // 2
    return np.where(rows**2 + columns**2 <= radius**2, np.uint8(255), np.uint8(0))


def within(mask: Mask, radius: float) -> NDArray[np.bool_]:
    """Pixels at most `radius` from the mask."""
    far: NDArray[np.float64] = distance_transform_edt(mask == 0)
    return far <= radius


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=12, deadline=None)
@given(mask=masks(), seed=st.integers(0, 2**32))
def test_masks_are_binary_not_empty_and_repeat(name: str, mask: Mask, seed: int) -> None:
    before = mask.copy()
    first, second = (MAKERS[name](mask, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(mask, before)
    assert first.shape == mask.shape
    assert first.dtype == np.uint8
    assert set(np.unique(first)) <= {0, 255}
    assert first.any()


@pytest.mark.parametrize("name", MAKERS)
def test_an_empty_mask_comes_back_unchanged(name: str) -> None:
    empty = np.zeros((40, 60), np.uint8)
    result = MAKERS[name](empty, np.random.default_rng(0))
    np.testing.assert_array_equal(result, empty)
    assert result is not empty


@settings(max_examples=40, deadline=None)
@given(mask=masks(), seed=st.integers(0, 2**32), radius=st.floats(8, 40))
def test_rough_contours_move_by_no_more_than_the_noise(
    mask: Mask, seed: int, radius: float
) -> None:
    rough = rough_mask(mask, np.random.default_rng(seed), RoughSettings(radius=(radius, radius)))
    a = radius * math.sqrt(mask.size) / 1024
    reach = math.sqrt(2) * a  # α ≤ a along each axis
    assert not (rough[~within(mask, a + reach + 1.5)]).any()
    core = distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1] > reach - a + 1.5
    assert rough[core].all()


@settings(max_examples=20, deadline=None)
@given(mask=masks(), seed=st.integers(0, 2**32))
def test_without_noise_a_rough_mask_is_a_filled_dilation(mask: Mask, seed: int) -> None:
    still = RoughSettings(radius=(20.0, 20.0), strength=(0.0, 0.0))
    rough = rough_mask(mask, np.random.default_rng(seed), still)
    a = 20 * math.sqrt(mask.size) / 1024
    assert rough[within(mask, a - 1)].all()
    holes_too = fill_outline(dilate(mask, 20.0 + 1024 / math.sqrt(mask.size)))
    assert not (rough & ~holes_too).any()


def test_rough_masks_of_a_seedless_draw_differ_and_grow_on_average() -> None:
    mask, rng = disk(), np.random.default_rng(0)
    drawn = [rough_mask(mask, rng) for _ in range(40)]
    assert len({rough.tobytes() for rough in drawn}) == 40
    areas = np.array([(rough > 0).sum() for rough in drawn]) / (mask > 0).sum()
    assert areas.min() > 0.95
    # A dilation by 24 px at 1024, the mean radius, is 6 px of the disk's 50.
    assert 1.1 < areas.mean() < 1.45


def test_rough_masks_scale_with_the_picture() -> None:
    areas = []
    for factor in (1, 2):
        mask = disk(128 * factor, 30 * factor)
        rough = rough_mask(mask, np.random.default_rng(3))
        areas.append((rough > 0).sum() / mask.size)
    assert areas[0] == pytest.approx(areas[1], rel=0.05)


def test_holes_are_filled() -> None:
    ring = disk() & ~disk(radius=30)
    rough = rough_mask(ring, np.random.default_rng(1))
    assert rough[128, 128] == 255


@given(mask=masks())
@settings(max_examples=20, deadline=None)
def test_box_masks_are_tight(mask: Mask) -> None:
    box = tight_box(mask)
    result = box_mask(mask)
    assert result[mask > 0].all()
    assert (result > 0).sum() == (box.x1 - box.x0) * (box.y1 - box.y0)


def test_the_box_stage_is_the_box_of_the_rough_mask() -> None:
    mask = disk()
    box = stage_mask(mask, np.random.default_rng(4), MaskStage.BOX)
    np.testing.assert_array_equal(box, box_mask(rough_mask(mask, np.random.default_rng(4))))


def test_the_evaluation_mask_is_a_dilation_by_five_pixels_at_256() -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[100, 100] = 255
    rows, columns = np.nonzero(dilate(mask))
    distances = np.hypot(rows - 100, columns - 100)
    assert distances.max() == 5
    assert len(rows) == 81  # whole points in a disk of radius 5


@pytest.mark.parametrize("shape", FreeShape)
@settings(max_examples=12, deadline=None)
@given(mask=masks(), seed=st.integers(0, 2**32))
def test_free_shapes_hold_the_object(shape: FreeShape, mask: Mask, seed: int) -> None:
    drawn = free_shape(mask, np.random.default_rng(seed), shape)
    assert drawn[mask > 0].all()


@pytest.mark.parametrize("shape", FreeShape)
def test_an_open_outline_means_its_inside(shape: FreeShape) -> None:
    for seed in range(6):
        filled = free_shape(disk(radius=30), np.random.default_rng(seed), shape)
        line = outlined(filled, 2)
        assert line.sum() < 0.4 * filled.sum()
        assert not (line & ~filled).any()
        np.testing.assert_array_equal(fill_outline(line), fill_outline(filled))


def test_scribbles_cover_the_object_roughly() -> None:
    for seed in range(4):
        drawn = scribble(disk(), np.random.default_rng(seed))
        assert drawn[disk() > 0].all()
        assert (drawn > 0).sum() < 2 * (disk() > 0).sum()


def test_the_mixture_decides_the_stage() -> None:
    mask, rng = disk(), np.random.default_rng(0)
    np.testing.assert_array_equal(draw_mask(mask, rng, MaskMix(fine=1.0)), mask)
    kinds = [draw_mask(mask, rng, MaskMix(fine=1.0, box=3.0)) for _ in range(80)]
    fine = sum(np.array_equal(kind, mask) for kind in kinds)
    assert 8 <= fine <= 34


@pytest.mark.parametrize("shares", [{}, {"fine": -1.0, "box": 2.0}, {"fine": math.nan}])
def test_mixtures_without_a_share_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="no mixture of masks"):
        MaskMix(**shares)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_noise_is_bounded_smooth_and_zero_on_the_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-300, 300, (2, 500))
    value = perlin(x, y)
    assert np.abs(value).max() <= 1
    assert np.abs(perlin(x + 1e-4, y) - value).max() < 1e-3
    np.testing.assert_allclose(perlin(np.floor(x), np.floor(y)), 0, atol=1e-12)
    np.testing.assert_allclose(perlin(x + 256, y - 256), value, atol=1e-9)

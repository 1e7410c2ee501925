"""Resizing, masks and regions in C++ give the very bytes of Pillow and numpy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from a2edit.runtime.boxes import Box, tight_box
from a2edit.runtime.masks import feathered, resize_mask
from a2edit.runtime.reference import object_on_plain_ground
from a2edit.runtime.regions import dilate, fill_outline, flood

KINDS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)
SIDES = st.one_of(st.integers(1, 12), st.integers(1, 300))
Array = NDArray[Any]


@st.composite
def pictures(draw: st.DrawFn, channels: int = 3) -> Array:
    """Noise, so that every rounding shows."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(SIDES), draw(SIDES), channels
    return random.integers(0, 256, shape[: 2 if channels == 1 else 3], np.uint8)


@st.composite
def masks(draw: st.DrawFn) -> Array:
    """Scattered pixels, soft noise, arcs, bands, or nothing: what people paint, and worse."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    height, width = draw(SIDES), draw(SIDES)
    kind = draw(st.sampled_from(["scattered", "soft", "arc", "band", "empty"]))
    mask = np.zeros((height, width), np.uint8)
    if kind == "scattered":
        mask[random.random(mask.shape) < random.choice([0.01, 0.3, 0.6])] = 255
    elif kind == "soft":
        mask = random.integers(0, 256, mask.shape, np.uint8)
    elif kind == "arc":
        rows, columns = np.mgrid[:height, :width]
        y, x = random.integers(0, height), random.integers(0, width)
        distance = np.hypot(rows - y, columns - x)
        turn = np.arctan2(rows - y, columns - x)
        radius, thick = random.uniform(2, 120), random.uniform(1, 6)
        mask[(abs(distance - radius) < thick) & (turn < random.uniform(0, 3.2))] = 255
    elif kind == "band":
        mask[random.integers(0, height) :: 2 + random.integers(0, 90)] = 255
    return mask


@settings(max_examples=200, deadline=None)
@given(pictures(1) | pictures(), st.sampled_from([1, 2, 7, 300]), SIDES, st.sampled_from(range(3)))
def test_resizing(probe: Any, picture: Array, width: int, height: int, kind: int) -> None:
    expected = np.asarray(Image.fromarray(picture).resize((width, height), KINDS[kind]))
    shape = (*picture.shape, 1)[:3]
    probe("resize", picture, *shape, width, height, kind)
    np.testing.assert_array_equal(probe.made(), expected)


@pytest.mark.parametrize(("shorter", "narrower"), [(40, 20), (41, 20), (1, -3), (-1, -9), (60, 0)])
def test_which_way_resizing_goes_first(probe: Any, shorter: int, narrower: int) -> None:
    """Pillow decides by what is taken away; the other order rounds otherwise."""
    picture = np.random.default_rng(0).integers(0, 256, (100, 90), np.uint8)
    size = 90 - narrower, 100 - shorter
    probe("resize", picture, 100, 90, 1, *size, 2)
    expected = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(probe.made(), np.asarray(expected))


@given(pictures())
def test_grey(probe: Any, picture: Array) -> None:
    probe("to_grey", picture, *picture.shape)
    np.testing.assert_array_equal(probe.made(), np.asarray(Image.fromarray(picture).convert("L")))


@given(masks())
def test_blur(probe: Any, mask: Array) -> None:
    probe("box_blur", mask, *mask.shape, 1)
    expected = Image.fromarray(mask).filter(ImageFilter.BoxBlur(1))
    np.testing.assert_array_equal(probe.made(), np.asarray(expected))


@given(masks(), st.integers(0, 40))
def test_dilation(probe: Any, mask: Array, radius: int) -> None:
    probe("dilate", (mask >= 128).astype(np.uint8), *mask.shape, 1, radius)
    np.testing.assert_array_equal(probe.made(), dilate(mask >= 128, radius))


@given(masks(), st.integers(0, 2**32))
def test_flood(probe: Any, mask: Array, seed: int) -> None:
    seeds = np.random.default_rng(seed).random(mask.shape) < 0.02
    probe("flood", (mask >= 128).astype(np.uint8), seeds.astype(np.uint8), *mask.shape)
    np.testing.assert_array_equal(probe.made(), flood(mask >= 128, seeds))


@settings(max_examples=200, deadline=None)
@given(masks())
def test_outlines(probe: Any, mask: Array) -> None:
    probe("fill_outline", (mask >= 128).astype(np.uint8), *mask.shape, 1)
    np.testing.assert_array_equal(probe.made(), fill_outline(mask >= 128))


@pytest.mark.parametrize("gap", [0.0, 0.05, 0.5, 1.5, 4.0])
def test_outlines_of_many_pixels(probe: Any, gap: float) -> None:
    """Past 1024 pixels they are told from scribbles in cells."""
    rows, columns = np.mgrid[:1500, :2100]
    ring = abs(np.hypot(rows - 700, columns - 900) - 600) < 4
    ring &= np.arctan2(rows - 700, columns - 900) > gap - np.pi
    probe("fill_outline", ring.astype(np.uint8), *ring.shape, 1)
    np.testing.assert_array_equal(probe.made(), fill_outline(ring))


@given(masks(), SIDES, SIDES)
def test_resizing_masks(probe: Any, mask: Array, width: int, height: int) -> None:
    probe("resize_mask", mask, *mask.shape, 1, width, height)
    np.testing.assert_array_equal(probe.made(), resize_mask(mask, width, height))


@given(masks(), st.integers(0, 9))
def test_feathering(probe: Any, mask: Array, feather: int) -> None:
    probe("feathered", mask, *mask.shape, 1, feather)
    np.testing.assert_array_equal(probe.made(), feathered(mask, feather))


@given(pictures(), st.integers(0, 255), st.floats(0, 1), st.booleans())
def test_the_object_on_plain_ground(
    probe: Any, picture: Array, ground: int, share: float, noisy: bool
) -> None:
    height, width, _ = picture.shape
    edge = int(min(height, width) * share / 2) + 1
    plain = np.full_like(picture, ground)
    if noisy:  # some pixels of the border are not of its colour
        plain[::7, ::3] = picture[::7, ::3]
    plain[edge:-edge, edge:-edge] = picture[edge:-edge, edge:-edge]
    probe("object_on_plain_ground", plain, *plain.shape)
    np.testing.assert_array_equal(probe.made(), object_on_plain_ground(plain))


@given(masks())
def test_tight_boxes(probe: Any, same_refusal: Any, mask: Array) -> None:
    found = np.zeros(4, np.int64)
    if not (mask >= 128).any():
        same_refusal(
            lambda: tight_box(mask), lambda: probe("tight_box", mask, *mask.shape, 1, found)
        )
        return
    probe("tight_box", mask, *mask.shape, 1, found)
    assert Box(*found.tolist()) == tight_box(mask)


@pytest.mark.parametrize(
    "text",
    ["1,2,3,4", " 1 ,+2, 1_0,\t4\n", "-5,-6,7,8", "007,1,8,2"],
)
def test_boxes_are_read(probe: Any, text: str) -> None:
    found = np.zeros(4, np.int64)
    probe("parse_box", text, found)
    assert Box(*found.tolist()) == Box.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "1,2,3", "1,2,3,4,5", "1,2,3,x", "1,2,3,4.0", "1,,3,4", ",,,", "it's,2,3,4"),
        *("1_,2,3,4", "_1,2,3,4", "1__0,2,3,4", "- 1,2,3,4", "+-1,2,3,4", "0x1,2,3,4"),
        *("3,2,1,4", "1,2,3,2", "1,2,1,4"),
    ],
)
def test_boxes_are_refused(probe: Any, same_refusal: Any, text: str) -> None:
    found = np.zeros(4, np.int64)
    same_refusal(lambda: Box.parse(text), lambda: probe("parse_box", text, found))

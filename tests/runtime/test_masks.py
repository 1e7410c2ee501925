"""What a mask means, in every form it may come in."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from PIL import Image

from a2edit.runtime.boxes import Box, tight_box
from a2edit.runtime.errors import RequestError
from a2edit.runtime.masks import FEATHER, boxes_mask, feathered, load_mask, resize_mask
from a2edit.runtime.regions import dilate

masks = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=24))


def region() -> NDArray[np.bool_]:
    on = np.zeros((40, 60), np.bool_)
    on[10:30, 20:45] = True
    return on


def saved(tmp_path: Path, image: Image.Image, name: str = "mask.png") -> Path:
    image.save(tmp_path / name)
    return tmp_path / name


def test_every_kind_of_mask_means_the_same(tmp_path: Path) -> None:
    on = region()
    grey = on.astype(np.uint8) * 255
    alpha = np.dstack([np.full((40, 60, 3), 90, np.uint8), 255 - grey])
    palette = Image.fromarray(on.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    cut = Image.fromarray(alpha).convert("LA")
    opaque = Image.fromarray(np.dstack([grey, grey, grey, np.full_like(grey, 255)]))
    kinds = {
        "grey": Image.fromarray(grey),
        "one bit": Image.fromarray(on),
        "rgb": Image.fromarray(np.dstack([grey] * 3)),
        "transparent": Image.fromarray(alpha),
        "grey and alpha": cut,
        "opaque alpha": opaque,
        "sixteen bits": Image.fromarray(grey.astype(np.uint16) * 257),
        "palette": palette,
        "soft": Image.fromarray(np.where(on, 128, 127).astype(np.uint8)),
    }
    for kind, image in kinds.items():
        for source in (image, saved(tmp_path, image)):
            mask = load_mask(source, "mask", (60, 40), of="image")
            np.testing.assert_array_equal(mask == 255, on, kind)
    for array in (on, grey, on.astype(np.float32), on.astype(np.float64), grey[..., None]):
        mask = load_mask(array, "mask", (60, 40), of="image")
        np.testing.assert_array_equal(mask == 255, on)


def test_a_transparent_reference_mask_means_the_opaque_part() -> None:
    on = region()
    rgba = np.dstack([np.zeros((40, 60, 3), np.uint8), on.astype(np.uint8) * 255])
    mask = load_mask(rgba, "reference mask", (60, 40), of="reference", transparent="object")
    np.testing.assert_array_equal(mask == 255, on)


def test_another_size_is_refused_unless_allowed() -> None:
    big = np.kron(region(), np.ones((3, 3), np.bool_))
    with pytest.raises(RequestError, match=r"180x120, but image is 60x40.*--resize-mask"):
        load_mask(big, "mask", (60, 40), of="image")
    mask = load_mask(big, "mask", (60, 40), of="image", resize=True)
    np.testing.assert_array_equal(mask == 255, region())


@pytest.mark.parametrize(("level", "hint"), [(0, "all of it is black"), (1, "pixel is 1 of 255")])
def test_empty_masks_say_what_they_hold(level: int, hint: str) -> None:
    with pytest.raises(RequestError, match=hint):
        load_mask(np.full((4, 4), level, np.uint8), "mask", (4, 4), of="image")


def test_boxes() -> None:
    mask = boxes_mask([Box(0, 0, 2, 3), Box(5, 5, 10, 8)], 10, 8)
    assert (mask == 255).sum() == 6 + 15
    assert tight_box(mask) == Box(0, 0, 10, 8)
    with pytest.raises(RequestError, match="10x8 pixels"):
        boxes_mask([Box(5, 5, 11, 8)], 10, 8)


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1.5,2,3,4", "5,5,5,9", "9,0,3,4"]
)
def test_bad_boxes(text: str) -> None:
    with pytest.raises(RequestError, match="box"):
        Box.of(text)
    assert Box.of("1, 2,3,4") == Box.of((1, 2, 3, 4)) == Box(1, 2, 3, 4)


@given(masks, st.integers(1, 40), st.integers(1, 40))
def test_resizing_never_loses_a_mask(mask: NDArray[np.uint8], width: int, height: int) -> None:
    resized = resize_mask(mask, width, height)
    assert resized.shape == (height, width)
    assert set(np.unique(resized)) <= {0, 255}
    if (mask >= 128).any():
        assert resized.any()


def test_thin_lines_survive_a_shrink_whole() -> None:
    line = np.zeros((400, 400), np.uint8)
    line[np.arange(400), np.arange(400)] = 255
    np.testing.assert_array_equal(resize_mask(line, 10, 10) == 255, np.eye(10, dtype=np.bool_))
    dots = np.zeros((4000, 4000), np.uint8)
    dots[5, 7] = dots[3999, 3999] = 255  # less than a level of a cell's grey
    np.testing.assert_array_equal(np.argwhere(resize_mask(dots, 100, 100)), [[0, 0], [99, 99]])


def test_soft_masks_are_resized_before_they_are_binarised() -> None:
    soft = np.full((8, 8), 100, np.uint8)
    soft[:, ::2] = 180  # 140 on average: more than a half, though half of the pixels are not
    assert (resize_mask(soft, 4, 4) == 255).all()
    soft[:, ::2] = 130  # 115 on average
    soft[0, 0] = 255
    assert not resize_mask(soft, 4, 4)[1:].any()


@given(masks)
def test_the_seam_holds_the_mask_and_ends(mask: NDArray[np.uint8]) -> None:
    on = mask >= 128
    weight = feathered(np.pad(mask, 12))
    padded = np.pad(on, 12)
    assert (weight[padded] == 255).all()
    assert (weight[~dilate(padded, FEATHER)] == 0).all()


def test_the_seam_falls_evenly() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[20:40, 20:40] = 255
    profile = feathered(mask)[30, 39:48].astype(int)
    assert profile[0] == 255
    assert (np.diff(profile) <= 0).all()
    assert 80 < profile[3] < 200
    assert profile[1 + FEATHER] == 0

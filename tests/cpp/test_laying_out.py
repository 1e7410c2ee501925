"""From a request to the model's pictures and back: in C++ the same bytes, window and refusals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from a2edit.runtime.boxes import Box
from a2edit.runtime.compose import compose
from a2edit.runtime.layout import reference_panel
from a2edit.runtime.prepare import Prepared, context_window, crop_window, prepare
from a2edit.runtime.request import EditRequest
from a2edit.runtime.spec import ModelSpec

Array = NDArray[Any]
ROLES = ("image", "reference", "mask", "reference_mask")


def model(layout: Any, placement: Any, size: int, reference_size: int) -> ModelSpec:
    sizes: dict[str, Any] = {"size": size, "sizes": (size,), "reference_size": reference_size}
    others = ("latent_channels", "conditioning_channels", "text_length", "pooled_length")
    counts: dict[str, Any] = dict.fromkeys((*others, "blocks", "experts", "batch"), 1)
    return ModelSpec(layout=layout, reference_placement=placement, **sizes, **counts)


def picture(random: np.random.Generator, height: int, width: int, channels: int) -> Array:
    shape = (height, width, channels)[: 2 if channels == 1 else 3]
    pixels = random.integers(0, 256, shape, np.uint8)
    if channels == 4 and random.random() < 0.3:
        pixels[..., 3] = random.choice([0, 255])
    if random.random() < 0.3:  # an object on plain ground
        pixels[: height // 3] = pixels[-height // 3 :] = pixels[:, : width // 3] = 200
    return pixels


def mask_of(random: np.random.Generator, height: int, width: int) -> Array:
    mask = np.zeros((height, width), np.uint8)
    (y0, y1), (x0, x1) = (sorted(random.integers(0, side + 1, 2)) for side in (height, width))
    mask[y0:y1, x0:x1] = random.choice([100, 255], p=[0.1, 0.9])
    if random.random() < 0.5:  # an outline
        mask[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = 0
    if random.random() < 0.2:  # transparent where it is on
        return np.dstack([np.zeros((height, width, 3), np.uint8), 255 - mask])
    return mask


def ask(probe: Any, pictures: dict[str, Array], boxes: Sequence[Box], resize: bool) -> None:
    probe("new_request", resize)
    for role, pixels in pictures.items():
        given_pixels = np.ascontiguousarray(pixels)
        shape = (*pixels.shape, 1)[:3]
        probe("request_picture", role, "", given_pixels, *shape)
    for box in boxes:
        probe("request_box", np.array([box.x0, box.y0, box.x1, box.y1], np.int64))


@pytest.mark.parametrize("seed", range(120))
def test_an_edit_is_laid_out_and_composed_alike(probe: Any, same_refusal: Any, seed: int) -> None:
    """Masks of every kind, boxes, alpha, odd sizes; where Python refuses, so does C++."""
    random = np.random.default_rng(seed)
    height, width = random.integers(1, [24, 300, 700][seed % 3], 2)
    other_sides = int(random.integers(1, 260)), int(random.integers(1, 260))
    pictures: dict[str, Any] = {
        "image": picture(random, height, width, random.choice([1, 3, 4])),
        "reference": picture(random, *other_sides, random.choice([1, 3, 4])),
    }
    boxes = []
    if random.random() < 0.8:
        other = random.random() < 0.2  # of another size than the image
        pictures["mask"] = mask_of(random, height // 2 + 1 if other else height, width)
    if "mask" not in pictures or random.random() < 0.2:
        x0, y0 = (int(random.integers(0, side)) for side in (width, height))
        reach = int(random.integers(1, 40))
        boxes.append(Box(x0, y0, min(x0 + reach, width + 2), min(y0 + reach, height)))
    if random.random() < 0.2:
        pictures["reference_mask"] = mask_of(random, *pictures["reference"].shape[:2])
    layout, placement = ("diptych", "redux")[seed % 2], ("aligned", "centred")[seed // 2 % 2]
    size, reference_size = int(random.choice([64, 256, 512])), int(random.choice([32, 112]))
    resize = bool(random.random() < 0.7)
    generated = random.integers(0, 256, (size, size, 3), np.uint8)
    window = np.zeros(4, np.int64)

    def in_python() -> Prepared:
        spec = model(layout, placement, size, reference_size)
        return prepare(EditRequest(**pictures, boxes=boxes, resize_mask=resize), spec)

    def in_cpp() -> None:
        ask(probe, pictures, boxes, resize)
        probe("prepare", layout, placement, size, reference_size, window, generated)

    try:
        expected = in_python()
    except ValueError:
        same_refusal(in_python, in_cpp)
        return
    in_cpp()
    assert Box(*window.tolist()) == expected.window
    names = ("canvas", "mask", "reference", "source", "source_mask", "alpha")
    for index, name in enumerate(names):
        array = getattr(expected, name)
        found = probe.made(index)
        assert (array is None) == (found.size == 0), name
        if array is not None:
            np.testing.assert_array_equal(found, array, err_msg=name)
    np.testing.assert_array_equal(probe.made(7), np.asarray(compose(expected, generated)))


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 6000), st.integers(1, 6000), st.data(), st.sampled_from([32, 256, 1024]))
def test_windows(probe: Any, width: int, height: int, data: st.DataObject, size: int) -> None:
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    found = np.zeros(4, np.int64)
    probe("context_window", np.array([x0, y0, x1, y1], np.int64), width, height, size, found)
    expected = context_window(Box(x0, y0, x1, y1), width, height, size)
    assert Box(*found.tolist()) == expected


@pytest.mark.parametrize("window", [(0, 0, 30, 30), (-9, -4, 60, 65), (20, -30, 70, 20)])
def test_windows_past_the_edge(probe: Any, window: tuple[int, int, int, int]) -> None:
    random = np.random.default_rng(1)
    scene, mask = random.integers(0, 256, (40, 50, 3), np.uint8), np.zeros((40, 50), np.uint8)
    mask[5:18, 22:28] = 255
    probe("crop_window", scene, mask, 40, 50, np.array(window, np.int64), 64)
    for index, expected in enumerate(crop_window(scene, mask, Box(*window), 64)):
        np.testing.assert_array_equal(probe.made(index), expected)


@pytest.mark.parametrize(
    ("box", "placement"),
    [((0, 0, 40, 30), "beside"), ((0, 0, 65, 30), "aligned"), ((0, 0, 40, 30), "centred")],
)
def test_what_cannot_be_laid_out(
    probe: Any, same_refusal: Any, box: tuple[int, int, int, int], placement: str
) -> None:
    """An unknown placement, a box outside of the panel, an object that is nowhere."""
    reference, mask = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.uint8)
    numbers = np.array(box, np.int64)
    same_refusal(
        lambda: reference_panel(reference, mask, Box(*box), 64, placement),
        lambda: probe("reference_panel", reference, mask, 20, 30, numbers, 64, placement),
    )

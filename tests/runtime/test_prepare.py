"""Window, layout, pasting back: properties over any size of picture and mask."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2edit.runtime.boxes import Box, tight_box
from a2edit.runtime.compose import compose
from a2edit.runtime.errors import RequestError
from a2edit.runtime.layout import (
    diptych,
    fit_reference,
    reference_panel,
    reference_square,
)
from a2edit.runtime.masks import FEATHER
from a2edit.runtime.prepare import (
    SIDE_LEAST,
    SIDE_MOST,
    Prepared,
    context_window,
    crop_window,
    prepare,
)
from a2edit.runtime.reference import object_on_plain_ground
from a2edit.runtime.regions import dilate
from a2edit.runtime.request import EditRequest
from a2edit.runtime.spec import ModelSpec

Spec = Callable[..., ModelSpec]
RNG = np.random.default_rng(0)


@st.composite
def boxed_pictures(draw: st.DrawFn, largest: int = 300) -> tuple[int, int, Box]:
    width, height = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    return width, height, Box(x0, y0, x1, y1)


@given(boxed_pictures(5000), st.sampled_from([32, 256, 1024]))
def test_the_window(case: tuple[int, int, Box], size: int) -> None:
    width, height, box = case
    window = context_window(box, width, height, size)
    longer, short = max(box.width, box.height), min(width, height)
    assert window.width == window.height
    assert window.x0 <= box.x0
    assert window.y0 <= box.y0
    assert window.x1 >= box.x1
    assert window.y1 >= box.y1
    if window.width <= short:
        assert window.inside(width, height)
    roomy = SIDE_MOST * longer >= max(longer + 2 * (FEATHER + 2), size // 4)
    if SIDE_MOST * longer <= short and roomy:
        assert round(SIDE_LEAST * longer) <= window.width <= round(SIDE_MOST * longer)
    # never so tight that the seam is cut, but by the picture's own edge
    for room, edge in (
        (box.x0 - window.x0, window.x0 <= 0),
        (box.y0 - window.y0, window.y0 <= 0),
        (window.x1 - box.x1, window.x1 >= width),
        (window.y1 - box.y1, window.y1 >= height),
    ):
        assert edge or room >= min(FEATHER, longer // 10)


@settings(max_examples=40)
@given(boxed_pictures(160))
def test_any_size_goes_in_and_comes_out(case: tuple[int, int, Box]) -> None:
    """Outside of the seam nothing moves; inside of the mask the edit stands."""
    width, height, box = case
    source = RNG.integers(0, 200, (height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[box.slices] = 255
    window = context_window(box, width, height, 64)
    picture, small = crop_window(source, mask, window, 64)
    assert picture.shape == (64, 64, 3)
    assert small.any()
    prepared = Prepared(picture, small, picture, window, source, mask)
    edited = np.asarray(compose(prepared, np.full((64, 64, 3), 250, np.uint8)))
    seam = dilate(mask >= 128, FEATHER)
    np.testing.assert_array_equal(edited[~seam], source[~seam])
    assert (edited[mask == 255] == 250).all()


def test_transparency_survives_outside_and_is_painted_over_inside() -> None:
    source = RNG.integers(0, 256, (80, 80, 4), np.uint8)
    mask = np.zeros((80, 80), np.uint8)
    mask[30:50, 30:50] = 255
    window = context_window(Box(30, 30, 50, 50), 80, 80, 64)
    blank = np.zeros((64, 64, 3), np.uint8)
    prepared = Prepared(
        blank, blank[..., 0], blank, window, source[..., :3].copy(), mask, source[..., 3].copy()
    )
    image = compose(prepared, np.full((64, 64, 3), 77, np.uint8))
    assert image.mode == "RGBA"
    edited, seam = np.asarray(image), dilate(mask >= 128, FEATHER)
    np.testing.assert_array_equal(edited[~seam], source[~seam])
    assert (edited[mask == 255] == (77, 77, 77, 255)).all()


def test_an_opaque_alpha_blends_like_none() -> None:
    source = RNG.integers(0, 256, (60, 60, 3), np.uint8)
    mask = np.zeros((60, 60), np.uint8)
    mask[20:40, 20:40] = 255
    window, blank = Box(0, 0, 60, 60), np.zeros((64, 64, 3), np.uint8)
    edit = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    plain = Prepared(blank, blank[..., 0], blank, window, source, mask)
    opaque = Prepared(
        blank, blank[..., 0], blank, window, source, mask, np.full((60, 60), 255, np.uint8)
    )
    with_alpha = np.asarray(compose(opaque, edit))
    np.testing.assert_allclose(with_alpha[..., :3], np.asarray(compose(plain, edit)), atol=1)
    assert (with_alpha[..., 3] == 255).all()


def test_prepare_lays_out_a_diptych(spec: Spec) -> None:
    scene = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[12:52, 12:52] = 255
    reference = np.zeros((10, 20, 4), np.uint8)
    reference[2:8, 4:16] = (200, 0, 0, 255)
    request = EditRequest(image=scene, mask=mask, reference=reference)
    prepared = prepare(request, spec(size=64, reference_size=40))
    assert prepared.window == Box(0, 0, 64, 64)
    np.testing.assert_array_equal(prepared.canvas[:, 64:], scene)
    np.testing.assert_array_equal(prepared.mask[:, 64:], mask)
    assert not prepared.mask[:, :64].any()
    # twice as wide as high: the object fills the box's width, and half of its height
    panel = (prepared.canvas[:, :64] == (200, 0, 0)).all(-1)
    assert tight_box(panel.astype(np.uint8) * 255) == Box(12, 22, 52, 42)
    square = (prepared.reference == (200, 0, 0)).all(-1)
    assert tight_box(square.astype(np.uint8) * 255) == Box(4, 12, 36, 28)
    assert prepared.reference.shape == (40, 40, 3)


def test_prepare_lays_out_redux(spec: Spec) -> None:
    scene = RNG.integers(0, 256, (50, 70, 3), np.uint8)
    request = EditRequest(image=scene, boxes=["10,10,30,40"], reference=scene)
    prepared = prepare(request, spec(layout="redux", size=64))
    assert prepared.canvas.shape == (64, 64, 3)
    assert prepared.mask.shape == (64, 64)


def test_one_box_may_come_alone() -> None:
    scene = np.zeros((50, 70, 3), np.uint8)
    assert EditRequest(image=scene, reference=scene, boxes="1,2,3,4").boxes == (Box(1, 2, 3, 4),)


def test_mask_and_boxes_add_up(spec: Spec) -> None:
    scene = np.zeros((50, 70, 3), np.uint8)
    mask = np.zeros((50, 70), np.uint8)
    mask[5:10, 5:10] = 255
    request = EditRequest(image=scene, mask=mask, boxes=[(20, 20, 30, 40)], reference=scene)
    assert (prepare(request, spec()).source_mask == 255).sum() == 25 + 200


@given(boxed_pictures(64), st.integers(1, 50), st.integers(1, 50))
def test_the_reference_fits_into_its_box(
    case: tuple[int, int, Box], width: int, height: int
) -> None:
    box = case[2]
    reference = np.full((height, width, 3), 60, np.uint8)
    panel = fit_reference(reference, np.full((height, width), 255, np.uint8), box, 64)
    drawn = tight_box((panel[..., 0] < 128).astype(np.uint8) * 255)
    assert drawn.x0 >= box.x0
    assert drawn.y1 <= box.y1
    assert drawn.width == box.width or drawn.height == box.height
    outside = panel.copy()
    outside[box.slices] = 255
    assert (outside == 255).all()


def test_placements() -> None:
    reference, whole = np.full((8, 8, 3), 9, np.uint8), np.full((8, 8), 255, np.uint8)
    box = Box(4, 4, 12, 12)
    aligned = reference_panel(reference, whole, box, 32, "aligned")
    np.testing.assert_array_equal(aligned, fit_reference(reference, whole, box, 32))
    assert (reference_panel(reference, whole, box, 32, "centred") == 9).all()
    assert reference_square(reference, whole, 20)[2, 2, 0] == 9
    assert reference_square(reference, whole, 20)[1, 2, 0] == 255
    with pytest.raises(RequestError, match="aligned or centred"):
        reference_panel(reference, whole, box, 32, "left")
    with pytest.raises(RequestError, match="must have one size"):
        diptych(reference, aligned, whole)
    with pytest.raises(RequestError, match="must have one size"):
        fit_reference(reference, np.full((9, 8), 255, np.uint8), box, 32)
    with pytest.raises(RequestError, match="outside the 32x32 panel"):
        fit_reference(reference, whole, Box(20, 20, 40, 30), 32)


def test_a_plain_border_is_ground() -> None:
    picture = np.full((60, 80, 3), (240, 238, 235), np.uint8)
    picture[20:50, 30:60] = (200, 30, 30)
    picture[30:40, 40:50] = (240, 238, 235)  # a light patch of the object is not ground
    noisy = np.clip(picture + RNG.integers(-4, 5, picture.shape), 0, 255).astype(np.uint8)
    mask = object_on_plain_ground(noisy)
    assert tight_box(mask) == Box(30, 20, 60, 50)
    assert mask[35, 45] == 255


@pytest.mark.parametrize("case", ["photograph", "one colour"])
def test_without_a_plain_border_all_is_object(case: str) -> None:
    picture = RNG.integers(0, 256, (60, 80, 3), np.uint8)
    if case == "one colour":
        picture[:] = 200
    assert (object_on_plain_ground(picture) == 255).all()


def test_references_that_hold_no_object(spec: Spec) -> None:
    scene = np.zeros((50, 70, 3), np.uint8)
    with pytest.raises(RequestError, match="transparent everywhere"):
        prepare(
            EditRequest(image=scene, boxes=["1,1,20,20"], reference=np.zeros((5, 5, 4), np.uint8)),
            spec(),
        )
    with pytest.raises(RequestError, match="reference mask is empty"):
        prepare(
            EditRequest(
                image=scene,
                boxes=["1,1,20,20"],
                reference=scene,
                reference_mask=np.zeros((50, 70), np.uint8),
            ),
            spec(),
        )


def test_a_request_needs_a_region_and_sound_numbers() -> None:
    scene = np.zeros((50, 70, 3), np.uint8)
    for changes, message in (
        ({}, "nothing to edit"),
        ({"boxes": ["1,1,9,9"], "steps": 0}, "steps must be between 1 and 1000, got 0"),
        ({"boxes": ["1,1,9,9"], "seed": -1}, "seed must be"),
        ({"boxes": ["9,9,1,1"]}, "is empty"),
        ({"boxes": [[0.5, 1, 9, 9]]}, "not four whole numbers"),
        ({"boxes": [[0, 0, float("inf"), 9]]}, "not four whole numbers"),
        ({"boxes": (1, 1, 9, 9)}, "not four whole numbers"),
        ({"boxes": ["1,1,9,9"], "prompt": None}, "prompt must be text"),
        ({"boxes": ["1,1,9,9"], "prompt": "a \udcff"}, "not valid Unicode"),
    ):
        with pytest.raises(RequestError, match=message):
            EditRequest(image=scene, reference=scene, **changes)

"""The held-out cases keep their promises: sizes, kinds of mask, what is marked, what is asked."""

import numpy as np
import pytest
from PIL import Image

from a2edit.bench.baselines import mean_colour, pasted
from a2edit.bench.figures import figures, region_of
from a2edit.bench.heldout.cases import DEMO_DRAWN, Case, demo_cases, drawn_cases, photograph_cases
from a2edit.bench.heldout.objects import OBJECTS
from a2edit.bench.heldout.rough import KINDS, Kind, rough_mask
from a2edit.bench.heldout.scenes import SCENES
from a2edit.bench.page import demo_page
from a2edit.export.heatmap import heat_map

CATEGORIES = {
    "portraits",
    "garments",
    "animals",
    "plants",
    "accessories",
    "furniture",
    "vehicles",
    "architecture",
}


@pytest.fixture(scope="module")
def drawn() -> list[Case]:
    return drawn_cases()


@pytest.fixture(scope="module")
def photographs() -> list[Case]:
    pytest.importorskip("skimage")
    return photograph_cases()


def test_every_category_is_drawn_twice_and_every_kind_of_mask_is_used(drawn: list[Case]) -> None:
    categories = [category for category, _ in OBJECTS.values()]
    assert set(categories) == CATEGORIES
    assert all(categories.count(category) == 2 for category in CATEGORIES)
    assert {case.kind for case in drawn} == set(KINDS)
    assert {case.category for case in drawn[:DEMO_DRAWN]} == CATEGORIES
    assert {case.reference.mode for case in drawn} == {"RGB", "RGBA"}


def test_scenes_have_sizes_of_their_own(drawn: list[Case]) -> None:
    assert len({case.scene.size for case in drawn}) > 5
    assert {case.scene.mode for case in drawn} == {"RGB"}
    assert len({case.name for case in drawn}) == len(drawn) > len(SCENES)


def test_a_drawing_is_the_same_twice(drawn: list[Case]) -> None:
    again = drawn_cases()[0]
    assert again.scene.tobytes() == drawn[0].scene.tobytes()
    assert again.mask.tobytes() == drawn[0].mask.tobytes()


def test_the_region_covers_the_object_and_not_the_picture(
    drawn: list[Case], photographs: list[Case]
) -> None:
    for case in drawn + photographs:
        region = region_of(case) >= 128
        place = np.zeros_like(region)
        place[case.place.slices] = True
        height, width = region.shape
        assert case.place.inside(width, height)
        assert (region & place).sum() > 0.45 * place.sum(), case.name
        assert 0.05 < region.mean() < 0.4, case.name


@pytest.mark.parametrize("kind", KINDS)
def test_a_rough_mask_is_rough_and_holds_the_object(kind: Kind) -> None:
    shape = np.zeros((200, 240), np.uint8)
    rows, columns = np.ogrid[:200, :240]
    shape[(rows - 100) ** 2 / 50**2 + (columns - 120) ** 2 / 40**2 < 1] = 255
    mask = rough_mask(shape, kind, seed=3)
    assert set(np.unique(mask)) == {0, 255}
    assert not np.array_equal(mask, shape)
    if kind == "outline":
        assert mask.mean() < 0.4 * shape.mean()  # a line, whose inside the runtime has to find
    else:
        assert (mask & shape).sum() > 0.85 * shape.sum()


def test_the_demo_mixes_drawings_and_photographs(photographs: list[Case]) -> None:
    cases = demo_cases()
    assert [case.drawn for case in cases] == [True] * DEMO_DRAWN + [False] * len(photographs)
    things = [case.name.split()[0] for case in cases]
    assert len(set(things)) == len(things)


def test_a_request_marks_the_region_as_the_kind_says(drawn: list[Case]) -> None:
    for case in drawn:
        request = case.request(steps=2, seed=5)
        assert (request.mask is None) == (case.kind == "box") == bool(request.boxes)
        assert (request.steps, request.seed) == (2, 5)


def test_figures_tell_a_paste_from_a_mean_colour_from_nothing(drawn: list[Case]) -> None:
    paste = figures([pasted(case) for case in drawn])
    mean = figures([mean_colour(case) for case in drawn])
    assert paste.own_closer == 1
    assert mean.own_closer < 0.8
    assert mean.identical_outside == 1
    assert mean.psnr_db is not None
    assert paste.comparisons == len(drawn) * (len(drawn) - 1)


def test_figures_fall_when_references_are_swapped(drawn: list[Case]) -> None:
    """The first case's paste is judged by another's reference: that case loses."""
    from dataclasses import replace

    edited = [pasted(case) for case in drawn[:4]]
    first = edited[0]
    swapped = replace(first, case=replace(first.case, thing=drawn[1].thing))
    assert figures([swapped, *edited[2:]]).cases[0].own_closer < figures(edited).cases[0].own_closer


def test_the_page_holds_everything_itself(drawn: list[Case]) -> None:
    from dataclasses import replace

    weights = np.array([[0.5, 0.0], [0.2, 0.3]], np.float32)
    edited = [pasted(case) for case in drawn[:2]]
    edited = [
        replace(one, result=replace(one.result, gate_weights=weights, route="<r&1>"))
        for one in edited
    ]
    page = demo_page(edited, figures(edited), "a2edit-mini")
    assert page.count("<article>") == 2
    assert "&lt;r&amp;1&gt;" in page
    assert "<r&1>" not in page
    assert page.count('src="') == page.count('src="data:image/jpeg;base64,')
    assert "http" not in page
    strip = heat_map(weights, axes=False)
    assert strip.count('class="ground"') == 4
    assert strip.count('class="on"') == 3


def test_a_drawing_leaves_its_ground_transparent() -> None:
    for name, (_, draw) in OBJECTS.items():
        thing = draw()
        alpha = np.asarray(thing.getchannel("A"))
        assert thing.mode == "RGBA"
        assert alpha.min() == 0, name
        assert 0.1 < (alpha > 128).mean() < 0.8, name
        assert isinstance(thing, Image.Image)

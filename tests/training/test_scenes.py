"""Drawn pairs: the same bytes for a seed, exact masks, sizes, and kinds kept from training."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from transformers import PreTrainedTokenizerFast

from a2edit.model.config import A2EDIT_MINI
from a2edit.model.tokenizers import write_tokenizers
from a2edit.runtime.errors import RequestError
from a2edit.runtime.layout import tight_box
from a2edit.training.scenes import (
    CATEGORIES,
    KINDS,
    Kind,
    Sample,
    Split,
    contact_sheet,
    draw_sample,
)
from a2edit.training.scenes.canvas import Canvas
from a2edit.training.scenes.emblems import EMBLEMS
from a2edit.training.scenes.front import cover
from a2edit.training.scenes.kinds import kinds_of
from a2edit.training.scenes.patterns import PATTERNS
from a2edit.training.scenes.pose import posed
from a2edit.training.scenes.sample import caption_of
from a2edit.training.scenes.style import Style, colour_name

SEEDS = range(24)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [draw_sample(seed, category=CATEGORIES[seed % 8]) for seed in SEEDS]


def pictures(sample: Sample) -> list[NDArray[np.uint8]]:
    return [sample.scene, sample.scene_mask, sample.reference, sample.reference_mask]


def test_a_seed_gives_the_same_bytes_whatever_was_drawn_before(samples: list[Sample]) -> None:
    for sample in samples[::-3]:
        again = draw_sample(sample.seed, category=sample.category)
        for first, second in zip(pictures(sample), pictures(again), strict=True):
            np.testing.assert_array_equal(first, second)
        assert again.caption == sample.caption


def test_seeds_differ(samples: list[Sample]) -> None:
    assert len({sample.scene.tobytes() for sample in samples}) == len(samples)


def test_shapes_types_and_mask_values(samples: list[Sample]) -> None:
    for sample in samples:
        assert [picture.dtype for picture in pictures(sample)] == [np.uint8] * 4
        assert sample.scene.shape == sample.reference.shape == (256, 256, 3)
        for mask in (sample.scene_mask, sample.reference_mask):
            assert mask.shape == (256, 256)
            assert set(np.unique(mask)) == {0, 255}


def test_tight_boxes_have_the_promised_sizes(samples: list[Sample]) -> None:
    for sample in samples:
        box = tight_box(sample.scene_mask)
        longest = max(box.x1 - box.x0, box.y1 - box.y0)
        assert (0.15 if sample.occluded else 0.28) * 256 <= longest <= 0.78 * 256
        box = tight_box(sample.reference_mask)
        assert 0.8 * 256 <= max(box.x1 - box.x0, box.y1 - box.y0) <= 256


def test_what_the_reference_mask_leaves_out_is_white(samples: list[Sample]) -> None:
    for sample in samples:
        outside = sample.reference[sample.reference_mask == 0].astype(int)
        # Edge pixels that the object covers by less than a half are outside, too.
        fringe = (outside < 255).any(-1).mean()
        assert fringe < 0.05
        touched = np.zeros((256, 256), bool)
        touched[sample.reference_mask == 0] = (outside < 255).any(-1)
        ring = np.pad(sample.reference_mask > 0, 2)
        near = np.any(
            [ring[2 + y : 258 + y, 2 + x : 258 + x] for y in (-2, 0, 2) for x in (-2, 0, 2)], axis=0
        )
        assert (touched & ~near).sum() <= 40


def test_silhouette_and_colours_are_those_of_the_reference(samples: list[Sample]) -> None:
    whole = [sample for sample in samples if not sample.occluded]
    assert len(whole) >= len(samples) * 0.7
    for sample in whole:
        shares, colours = [], []
        for picture, mask in (
            (sample.scene, sample.scene_mask),
            (sample.reference, sample.reference_mask),
        ):
            box = tight_box(mask)
            longer = max(box.x1 - box.x0, box.y1 - box.y0)
            shares.append((mask > 0).sum() / longer**2)
            colours.append(picture[mask > 0].mean(0))
        # ±12° and a shear change the tight box; the scene's light changes levels, not hues.
        assert shares[0] == pytest.approx(shares[1], rel=0.4)
        np.testing.assert_allclose(colours[0], colours[1], rtol=0.3, atol=16)
        np.testing.assert_allclose(
            colours[0] / colours[0].sum(), colours[1] / colours[1].sum(), atol=0.05
        )


def test_what_stands_in_front_leaves_most_of_the_object_to_be_seen() -> None:
    drawn = [draw_sample(seed, size=64) for seed in range(120)]
    hidden = [sample for sample in drawn if sample.occluded]
    assert 0.04 <= len(hidden) / len(drawn) <= 0.2
    assert all((sample.scene_mask > 0).sum() > 60 for sample in hidden)


def test_at_most_a_quarter_of_an_object_is_covered() -> None:
    alpha = Image.new("L", (96, 96))
    ImageDraw.Draw(alpha).ellipse((30, 20, 70, 80), 255)
    for seed in range(12):
        picture = Image.new("RGB", (96, 96), (90, 120, 150))
        seen = cover(picture, alpha, (30, 20, 71, 81), np.random.default_rng(seed))
        before, after = np.asarray(alpha) > 127, np.asarray(seen or alpha) > 127
        changed = (np.asarray(picture) != (90, 120, 150)).any(-1)
        assert not (after & ~before).any()
        assert changed[before & ~after].all()
        assert (before & ~after).sum() <= 0.26 * before.sum()
        assert (seen is None) == (not changed.any())


def test_poses_are_tight_and_as_long_as_asked() -> None:
    sprite = Image.new("RGBa", (120, 60), (200, 40, 40, 255))
    shapes = set()
    for seed in range(12):
        placed = posed(sprite, 50, np.random.default_rng(seed))
        assert max(placed.size) == 50
        assert placed.getchannel("a").getextrema()[1] == 255
        shapes.add(placed.size)
    assert len(shapes) > 3


def test_no_kind_is_in_both_splits() -> None:
    names = [(kind.category, kind.name) for kind in KINDS]
    assert len(set(names)) == len(names)
    train = {kind.draw for kind in kinds_of("train")}
    assert train.isdisjoint(kind.draw for kind in kinds_of("held_out"))


@pytest.mark.parametrize("category", CATEGORIES)
def test_each_category_draws_in_both_splits(category: str) -> None:
    assert len(kinds_of("train", category)) >= 7
    assert len(kinds_of("held_out", category)) >= 2
    splits: tuple[Split, ...] = ("train", "held_out")
    for split in splits:
        sample = draw_sample(5, size=64, split=split, category=category)
        assert sample.category == category
        assert sample.kind in {kind.name for kind in kinds_of(split, category)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kinds_stay_on_the_canvas_and_fill_it(kind: Kind) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        canvas = Canvas(128)
        kind.draw(canvas, Style.random(rng), rng)
        alpha = np.asarray(canvas.image.getchannel("A"))
        assert set(np.unique(alpha)) <= {0, 255}
        box = tight_box(alpha)
        assert max(box.x1 - box.x0, box.y1 - box.y0) >= 0.7 * 128
        # Nothing is cut off by the canvas's edge over any length.
        edges = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert (edges > 0).mean() < 0.1


def test_captions_name_the_object(samples: list[Sample]) -> None:
    for sample in samples:
        assert sample.caption.split()[0] in ("a", "an")
        assert "{" not in sample.caption


def test_an_emblem_is_named_where_it_is_shown() -> None:
    style = replace(Style.random(np.random.default_rng(0)), emblem="star")
    shirt = next(kind for kind in KINDS if kind.emblem)
    plain = next(kind for kind in KINDS if not kind.emblem)
    assert caption_of(shirt, style).endswith(" with a star")
    assert not caption_of(plain, style).endswith("star")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> list[PreTrainedTokenizerFast]:
    folders, _, _ = write_tokenizers(tmp_path_factory.mktemp("tokenizers"))
    return [PreTrainedTokenizerFast.from_pretrained(folder) for folder in folders.values()]


def test_every_caption_fits_the_small_models_and_keeps_its_words(
    tokenizers: list[PreTrainedTokenizerFast],
) -> None:
    """The longest words in every place of every kind: none is cut, none falls to letters."""
    colour, pattern = "dark turquoise", max(PATTERNS, key=len)
    looks = [f"{colour} and {colour}", f"{colour} {pattern}"]
    emblem = max(EMBLEMS.values(), key=lambda words: len(words.split()))
    captions = {
        f"a {kind.caption.format(look=look)}{f' with {emblem}' if kind.emblem else ''}"
        for kind in KINDS
        for look in looks
    }
    words = {word for caption in captions for word in re.split(r"[ -]", caption)}
    words |= {word for name in [*PATTERNS, *EMBLEMS.values()] for word in re.split(r"[ -]", name)}
    levels = range(0, 256, 15)
    words |= {
        word
        for red, green, blue in product(levels, repeat=3)
        for word in colour_name((red, green, blue)).split()
    }
    for tokenizer in tokenizers:
        for caption in captions:
            assert len(tokenizer(caption).input_ids) <= A2EDIT_MINI.text_length
        split = {word for word in words if len(tokenizer.tokenize(word)) > 2}
        assert not split
    assert A2EDIT_MINI.text_length == A2EDIT_MINI.pooled_length


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((250, 20, 20), "red"), ((20, 20, 220), "blue"), ((240, 230, 40), "yellow"),
        ((110, 60, 20), "brown"), ((250, 250, 250), "white"), ((20, 20, 22), "black"),
        ((255, 170, 180), "pink"), ((20, 90, 30), "dark green"), ((170, 200, 250), "pale blue"),
    ],
)  # fmt: skip
def test_colours_have_their_everyday_names(colour: tuple[int, int, int], name: str) -> None:
    assert colour_name(colour) == name


def test_unknown_names_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(RequestError, match="portraits, garments"):
        draw_sample(0, category="dinosaurs")


def test_contact_sheet_shows_every_sample(samples: list[Sample]) -> None:
    assert contact_sheet(samples[:5], columns=2).size == (2 * 3 * 256, 3 * 256)

"""A user's pictures: what is a cut-out and what a photograph, and how drawn pairs use them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from a2edit.runtime.errors import DataError
from a2edit.training.photos import Photos
from a2edit.training.scenes import CATEGORIES, Sample, draw_sample

RED = (210, 30, 40)


def photograph(path: Path, seed: int, size: tuple[int, int] = (90, 60)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)


def cut_out(path: Path, colour: tuple[int, int, int] = RED) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGBA", (80, 60), (0, 0, 0, 0))
    ImageDraw.Draw(picture).ellipse((10, 5, 70, 55), (*colour, 255))
    picture.save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(4):
        photograph(folder / f"place {seed}.jpg", seed)
    cut_out(folder / "animals" / "tabby.png")
    cut_out(folder / "misc" / "IMG_0001.png")
    cut_out(folder / "red_car_2.png")
    photograph(folder / "Dress" / "blue.png", 9)
    mask = Image.new("L", (90, 60))
    ImageDraw.Draw(mask).rectangle((20, 10, 69, 49), 255)
    mask.save(folder / "Dress" / "blue_mask.png")
    (folder / "Dress" / "blue.txt").write_text("A long gown.\n")
    # Transparency that hides nothing makes no cut-out.
    Image.new("RGBA", (50, 50), (9, 90, 200, 255)).save(folder / "sky.png")
    return folder


def test_files_are_told_apart_and_sorted_into_categories(folder: Path) -> None:
    assert Photos.open(folder).count() == dict.fromkeys(CATEGORIES, 0) | {
        "photographs": 5, "animals": 1, "accessories": 1, "vehicles": 1, "garments": 1,
    }  # fmt: skip


def test_captions_come_from_the_text_the_name_or_the_category(folder: Path) -> None:
    photos, rng = Photos.open(folder), np.random.default_rng(0)
    captions = {}
    for category in ("animals", "accessories", "vehicles", "garments"):
        found = photos.cut_out(category, "train", rng)
        assert found is not None
        captions[category] = found.caption
    assert captions == {
        "animals": "a tabby", "accessories": "a thing", "vehicles": "a red car",
        "garments": "a long gown",
    }  # fmt: skip


def test_cut_outs_are_tight_and_follow_their_mask(folder: Path) -> None:
    found = Photos.open(folder).cut_out("garments", "train", np.random.default_rng(0))
    assert found is not None
    assert found.picture.mode == "RGBA"
    assert found.picture.size == (50, 40)
    assert found.picture.getchannel("A").getextrema() == (255, 255)


def test_crops_have_the_asked_size_and_lie_inside(folder: Path) -> None:
    photos = Photos.open(folder)
    for seed in range(20):
        crop = photos.background(48, "train", np.random.default_rng(seed))
        assert crop is not None
        assert (crop.mode, crop.size) == ("RGB", (48, 48))


def drawn(folder: Path, count: int = 60, cache_bytes: int = 1 << 28) -> list[Sample]:
    photos = Photos.open(folder, cache_bytes)
    return [draw_sample(seed, 64, photos=photos) for seed in range(count)]


def test_pairs_use_pictures_and_the_same_folder_gives_the_same_bytes(folder: Path) -> None:
    # However little is kept in memory, and whatever was drawn before.
    first, again = drawn(folder), drawn(folder, cache_bytes=1)
    for a, b in zip(first, again, strict=True):
        assert a.scene.tobytes() == b.scene.tobytes()
        assert a.reference.tobytes() == b.reference.tobytes()
        assert a.caption == b.caption
    kinds = [sample.kind for sample in first]
    worn = sum("patterned" in sample.caption for sample in first)
    assert "cut-out" in kinds
    assert 0.08 < (kinds.count("cut-out") + worn) / len(kinds) < 0.4


def test_a_cut_out_keeps_its_colour_in_both_pictures(folder: Path) -> None:
    photos = Photos.open(folder)
    for seed in range(60):
        sample = draw_sample(seed, 64, category="animals", photos=photos)
        if sample.kind == "cut-out" and not sample.occluded:
            seen = sample.reference[sample.reference_mask > 0].mean(0)
            np.testing.assert_allclose(seen, RED, atol=14)
            there = sample.scene[sample.scene_mask > 0].mean(0)
            assert there[0] > 2 * max(there[1:])


def test_pairs_without_pictures_stay_as_they_were(folder: Path) -> None:
    plain = draw_sample(3, 64)
    assert drawn(folder, 4)[3].seed == plain.seed
    assert draw_sample(3, 64).scene.tobytes() == plain.scene.tobytes()


def test_a_tenth_of_many_files_is_held_out(tmp_path: Path) -> None:
    for seed in range(40):
        photograph(tmp_path / f"{seed}.png", seed, (12, 12))
    photos = Photos.open(tmp_path)
    kept = photos.count("held_out")["photographs"]
    assert 1 <= kept <= 12
    assert photos.count("train")["photographs"] == 40 - kept
    assert photos.cut_out("animals", "train", np.random.default_rng(0)) is None


def test_a_category_without_pictures_is_drawn(tmp_path: Path) -> None:
    cut_out(tmp_path / "animals" / "a.png")
    photos = Photos.open(tmp_path)
    for seed in range(12):
        assert draw_sample(seed, 32, category="plants", photos=photos).kind != "cut-out"
        assert draw_sample(seed, 32, "held_out", "animals", photos).kind != "cut-out"


def test_folders_that_give_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        Photos.open(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="holds no picture; allowed are png"):
        Photos.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_broken_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png.*remove"):
        Photos.open(tmp_path)


def test_a_photograph_cut_short_is_named_when_it_is_needed(tmp_path: Path) -> None:
    photograph(tmp_path / "short.jpg", 1, (300, 300))
    data = (tmp_path / "short.jpg").read_bytes()
    (tmp_path / "short.jpg").write_bytes(data[: len(data) // 2])
    photos = Photos.open(tmp_path)
    with pytest.raises(DataError, match=r"short\.jpg.*remove"):
        photos.background(32, "train", np.random.default_rng(0))


def test_masks_that_do_not_fit_or_are_empty_are_refused(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png", 1)
    Image.new("L", (10, 10), 255).save(tmp_path / "a_mask.png")
    with pytest.raises(DataError, match=r"10x10.*90x60"):
        Photos.open(tmp_path).cut_out("accessories", "train", np.random.default_rng(0))
    Image.new("L", (90, 60)).save(tmp_path / "a_mask.png")
    with pytest.raises(DataError, match="nothing of"):
        Photos.open(tmp_path).cut_out("accessories", "train", np.random.default_rng(0))

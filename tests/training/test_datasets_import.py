"""Insert-Anything's folders become UniEdit samples, or a refusal that says what to pass."""

from __future__ import annotations

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from a2edit.runtime.boxes import Box
from a2edit.runtime.errors import DataError
from a2edit.training.datasets import write_samples
from a2edit.training.datasets.categories import ALIASES, SUBCATEGORIES, category_of
from a2edit.training.datasets.insert_anything import FOLDERS, SKIP, convert, find_pairs
from a2edit.training.datasets.validate import validate
from a2edit.training.scenes import CATEGORIES

PLACES = {"ref": (4, 6, 20, 30), "src": (30, 10, 50, 60)}


def add(group: Path, stem: str, suffix: str = ".png", sizes: tuple[int, int] = (80, 64)) -> None:
    rng = np.random.default_rng(crc32(f"{group.name}/{stem}".encode()))
    width, height = sizes
    for folder, part in FOLDERS.items():
        (group / folder).mkdir(parents=True, exist_ok=True)
        x0, y0, x1, y1 = PLACES[part.removesuffix("_mask")]
        if part.endswith("mask"):
            # as they are stored: three equal channels
            picture = np.zeros((height, width, 3), np.uint8)
            picture[y0:y1, x0:x1] = 255
            Image.fromarray(picture).save(group / folder / f"{stem}.png")
        else:
            picture = rng.integers(0, 255, (height, width, 3), np.uint8)
            Image.fromarray(picture).save(group / folder / f"{stem}{suffix}")


@pytest.fixture
def any_insertion(tmp_path: Path) -> Path:
    """As parquet_to_image.py unpacks it."""
    root = tmp_path / "any"
    for group, labels in {
        "train/accessory": {"14906": "Trousers", "21236": "top", "10311": "Bag"},
        "train/object": {"9857": "Tomato", "18269": "table"},
        "train/person": {"6563": "person"},
        "test/garment": {"3": "Blouse"},
    }.items():
        for stem in labels:
            add(root / group, stem)
        named = {f"{stem}.png": label for stem, label in labels.items()}
        (root / group / "labels.json").write_text(json.dumps(named))
    return root


def test_labels_folders_and_splits_are_mapped(any_insertion: Path, tmp_path: Path) -> None:
    pairs = find_pairs(any_insertion)
    assert {(pair.id, pair.split, pair.category) for pair in pairs} == {
        ("train-accessory-14906", "train", "garments"),
        ("train-accessory-21236", "train", "garments"),
        ("train-accessory-10311", "train", "accessories"),
        ("train-object-9857", "train", "plants"),
        ("train-object-18269", "train", "furniture"),
        ("train-person-6563", "train", "portraits"),
        ("test-garment-3", "test", "garments"),
    }
    assert write_samples(tmp_path / "out", convert(pairs, "some licence")) == 7
    report = validate(tmp_path / "out", least=64)
    assert not report.tally
    assert report.counts["garments", "train"] == 2
    assert report.subcategories["garments", "blouse"] == 1
    record = json.loads((tmp_path / "out/accessories/train-accessory-10311.json").read_text())
    assert record["prompt"] == "bag"
    assert record["licence"] == "some licence"
    assert record["sizes"] == {"ref": [80, 64], "src": [80, 64]}


def test_masks_and_pictures_are_those_of_the_folders(any_insertion: Path) -> None:
    pair = find_pairs(any_insertion)[0]
    (sample,) = convert([pair])
    assert sample.record.ref_box == Box(*PLACES["ref"])
    assert sample.record.src_box == Box(*PLACES["src"])
    for folder, name in (("ref_image", "ref"), ("tar_image", "src")):
        original = np.asarray(Image.open(pair.path(folder))).astype(int)
        assert np.abs(sample.picture(name) - original).mean() < 6  # type: ignore[arg-type]


def test_jpeg_files_are_taken_as_they_are(tmp_path: Path) -> None:
    add(tmp_path / "train" / "garment", "a", ".jpg")
    (pair,) = find_pairs(tmp_path / "train" / "garment")
    (sample,) = convert([pair])
    assert sample.files["src"] == pair.path("tar_image").read_bytes()
    assert (sample.record.split, sample.record.id) == ("train", "a")


def test_what_has_no_category_says_what_to_pass(any_insertion: Path) -> None:
    for stem, label in (("1", "Book"), ("2", "Book"), ("3", "pillow")):
        add(any_insertion / "train/object", stem)
        path = any_insertion / "train/object/labels.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {f"{stem}.png": label}))
    with pytest.raises(DataError) as refusal:
        find_pairs(any_insertion)
    assert str(refusal.value).startswith(
        "3 samples have a label without a category: Book (2), pillow (1); pass "
        "--category 'book=CATEGORY' for each"
    )
    pairs = find_pairs(any_insertion, {"book": SKIP, "PILLOW": "furniture"})
    assert len(pairs) == 8
    # a folder's name maps whatever in it has no label of its own that was given
    pairs = find_pairs(any_insertion, {"object": "furniture"})
    assert {pair.category for pair in pairs if pair.place.name == "object"} == {"furniture"}
    with pytest.raises(DataError, match="'toys' for 'book' is unknown: give one of portraits"):
        find_pairs(any_insertion, {"book": "toys"})


def test_a_folder_without_labels_goes_by_its_name(tmp_path: Path) -> None:
    add(tmp_path / "object", "a")
    with pytest.raises(DataError, match=r"object \(1\); pass --category 'object=CATEGORY'"):
        find_pairs(tmp_path)
    (pair,) = find_pairs(tmp_path, {"object": "vehicles"}, split="test")
    assert (pair.category, pair.split, pair.label) == ("vehicles", "test", "")


def test_other_layouts_are_refused(tmp_path: Path, any_insertion: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        find_pairs(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no folder in it holds ref_image"):
        find_pairs(tmp_path / "empty")
    (tmp_path / "empty" / "train-0.parquet").touch()
    with pytest.raises(DataError, match=r"unpack them first with parquet_to_image\.py"):
        find_pairs(tmp_path / "empty")
    (any_insertion / "train/object/tar_mask/9857.png").unlink()
    with pytest.raises(DataError, match=r"sample '9857' in .* has no picture in tar_mask"):
        find_pairs(any_insertion)
    (any_insertion / "train/object/labels.json").write_text("{")
    with pytest.raises(DataError, match=r"labels\.json' is no json"):
        find_pairs(any_insertion)


def test_what_cannot_be_a_sample_is_named(any_insertion: Path) -> None:
    pairs = find_pairs(any_insertion)
    mask = pairs[0].path("tar_mask")
    Image.new("L", (80, 64)).save(mask)
    with pytest.raises(DataError, match=r"ref_image.*the mask of src is empty"):
        list(convert(pairs))
    Image.new("L", (8, 8), 255).save(mask)
    with pytest.raises(DataError, match=r"src is 80x64 and its mask 8x8"):
        list(convert(pairs))
    mask.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"tar_mask.*cannot be decoded"):
        list(convert(pairs))


def test_the_table_of_subcategories_is_one_to_one() -> None:
    assert tuple(sorted(SUBCATEGORIES)) == tuple(sorted(CATEGORIES))
    names = [name for listed in SUBCATEGORIES.values() for name in listed.split(", ")]
    assert len(names) == len(set(names))
    assert not set(ALIASES) & set(names)
    assert set(ALIASES.values()) <= set(CATEGORIES)
    assert category_of(" Sports Car ") == "vehicles"
    assert category_of("architecture") == "architecture"
    assert category_of("book") is None

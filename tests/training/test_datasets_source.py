"""Sources of samples: the same sample for an index, splits that never meet, squares cut right."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2edit.runtime.errors import DataError, RequestError
from a2edit.runtime.images import Pixels
from a2edit.runtime.layout import tight_box
from a2edit.training.datasets import (
    DrawnScenes,
    SampleSource,
    UniEditSource,
    make_sample,
    write_samples,
)
from a2edit.training.datasets.draw import export_source
from a2edit.training.scenes import CATEGORIES, Sample, draw_sample

SIZE = 64


def pictures(sample: Sample) -> list[Pixels]:
    return [sample.scene, sample.scene_mask, sample.reference, sample.reference_mask]


def same(one: Sample, other: Sample) -> bool:
    pairs = zip(pictures(one), pictures(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_drawn_scenes_are_the_scenes_of_their_seeds() -> None:
    source: SampleSource = DrawnScenes()
    assert source.categories == CATEGORIES
    first = source.sample(5, SIZE, category="plants")
    np.testing.assert_array_equal(first.scene, draw_sample(5, SIZE, category="plants").scene)
    assert first.scene.shape == (SIZE, SIZE, 3)
    assert first.category == "plants"


def test_a_held_out_index_is_another_seed() -> None:
    source = DrawnScenes()
    seen, kept = source.sample(3, SIZE), source.sample(3, SIZE, "held_out")
    assert seen.seed != kept.seed


def test_a_users_pictures_are_drawn_with(tmp_path: Path) -> None:
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    source = DrawnScenes(tmp_path)
    copy: DrawnScenes = pickle.loads(pickle.dumps(source))
    changed = 0
    for index in range(12):
        sample = source.sample(index, SIZE)
        assert same(sample, copy.sample(index, SIZE))
        changed += not same(sample, DrawnScenes().sample(index, SIZE))
    assert changed > 3
    with pytest.raises(DataError, match="is no folder"):
        DrawnScenes(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 drawn samples of training and 8 held-out ones, in shards."""
    out = tmp_path_factory.mktemp("uniedit") / "shards"
    drawn = DrawnScenes()
    train = export_source(drawn, 24, 96, "train")
    held_out = export_source(drawn, 8, 96, "held_out")
    write_samples(out, (sample for part in (train, held_out) for sample in part), per_shard=10)
    return out


@pytest.fixture
def source(
    dataset: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> UniEditSource:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    return UniEditSource(dataset)


def test_a_data_set_is_a_source(source: UniEditSource) -> None:
    plain: SampleSource = source
    assert plain.categories == CATEGORIES
    for index in range(6):
        sample = plain.sample(index, SIZE)
        assert [picture.shape for picture in pictures(sample)] == [
            (SIZE, SIZE, 3), (SIZE, SIZE), (SIZE, SIZE, 3), (SIZE, SIZE),
        ]  # fmt: skip
        assert all(picture.dtype == np.uint8 for picture in pictures(sample))
        for mask in (sample.scene_mask, sample.reference_mask):
            assert set(np.unique(mask)) == {0, 255}
        assert sample.category in CATEGORIES
        assert sample.caption.split()[0] in ("a", "an")
        # what the reference's mask leaves out is white, up to the edge's own blur
        outside = sample.reference[sample.reference_mask == 0]
        assert (outside < 250).any(-1).mean() < 0.1


def test_an_index_gives_the_same_sample_wherever_it_is_asked(source: UniEditSource) -> None:
    copy: UniEditSource = pickle.loads(pickle.dumps(source))
    for index in (0, 7, 23, 24, 1000, 10**9):
        assert same(source.sample(index, SIZE), copy.sample(index, SIZE))
    assert not same(source.sample(0, SIZE), UniEditSource(source.path, seed=1).sample(0, SIZE))


def test_a_pass_shows_every_sample_once(source: UniEditSource) -> None:
    assert (source.count(), source.count("held_out")) == (24, 8)
    passes = [[source.raw(24 * turn + k).record.id for k in range(24)] for turn in range(2)]
    assert len(set(passes[0])) == 24
    assert set(passes[0]) == set(passes[1])
    assert passes[0] != passes[1]


def test_splits_and_categories_are_kept_apart(source: UniEditSource) -> None:
    held_out = {source.raw(index, "held_out").record.id for index in range(16)}
    assert len(held_out) == 8
    assert all(name.startswith("held_out") for name in held_out)
    for category in CATEGORIES:
        assert source.count("train", category) == 3
        names = {source.raw(index, "train", category).record.id for index in range(3)}
        assert len(names) == 3
        assert source.sample(0, SIZE, category=category).category == category


def test_what_a_data_set_has_not_is_refused(source: UniEditSource) -> None:
    with pytest.raises(RequestError, match=r"no samples .*'robots'.* 3 portraits"):
        source.sample(0, SIZE, category="robots")


def write_one(out: Path, width: int, height: int, box: tuple[int, int, int, int]) -> None:
    """A red object on blue ground; its box tells where it is."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[...] = (0, 0, 200)
    mask = np.zeros((height, width), np.uint8)
    x0, y0, x1, y1 = box
    picture[y0:y1, x0:x1] = (200, 0, 0)
    mask[y0:y1, x0:x1] = 255
    parts = {"ref": picture, "ref_mask": mask, "src": picture, "src_mask": mask}
    sample = make_sample(id="one", split="train", category="robots", pictures=parts)  # type: ignore[arg-type]
    write_samples(out, [sample])


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (400, 200, (300, 60, 360, 100)),  # a small object in a wide picture
        (200, 400, (0, 0, 40, 40)),  # in a corner
        (300, 300, (10, 100, 290, 200)),  # nearly as wide as the picture
        (500, 100, (100, 10, 400, 90)),  # longer than the short side
        (48, 48, (20, 20, 30, 28)),  # smaller than the working size
    ],
)
def test_windows_hold_the_object_and_what_is_around_it(
    width: int, height: int, box: tuple[int, int, int, int], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_one(tmp_path / "data", width, height, box)
    source = UniEditSource(tmp_path / "data", shift=0.2)
    assert source.categories == ("robots",)
    places = set()
    for index in range(12):
        sample = source.sample(index, SIZE)
        seen = tight_box(sample.scene_mask)
        red = sample.scene[..., 0] > 100
        # the mask lies where the object is, its shape kept, and there is ground beside it
        assert ((sample.scene_mask > 0) ^ red).mean() < 0.05
        assert seen.width / seen.height == pytest.approx(
            (box[2] - box[0]) / (box[3] - box[1]), rel=0.25
        )
        assert not red.all()
        places.add((seen.x0, seen.y0))
        inner = tight_box(sample.reference_mask)
        assert 0.85 * SIZE <= max(inner.width, inner.height) <= 0.95 * SIZE
    if (width, height) == (400, 200):
        assert len(places) > 3  # training does not see the object in the middle every time


def test_a_json_that_changed_under_the_index_is_not_taken_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_one(tmp_path / "data", 64, 64, (10, 10, 40, 40))
    source = UniEditSource(tmp_path / "data")
    record = tmp_path / "data" / "robots" / "one.json"
    record.write_text(record.read_text().replace('"train"', '"test"'))
    with pytest.raises(DataError, match=r"delete .* built again"):
        source.sample(0, SIZE)

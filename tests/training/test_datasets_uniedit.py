"""UniEdit samples: written, read back, indexed, and broken in every way a disk can."""

from __future__ import annotations

import json
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from a2edit.runtime.boxes import Box
from a2edit.runtime.errors import DataError
from a2edit.training.datasets import DrawnScenes, UniEditSample, make_sample, write_samples
from a2edit.training.datasets.draw import export_source
from a2edit.training.datasets.index import open_index
from a2edit.training.datasets.record import FILES, PARTS, UniEditRecord, parse_record
from a2edit.training.datasets.uniedit import Entry, entries, find_units

COUNT, SIZE = 9, 64


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def samples() -> list[UniEditSample]:
    return list(export_source(DrawnScenes(), COUNT, SIZE, "train"))


@pytest.fixture
def folder(tmp_path: Path, samples: list[UniEditSample]) -> Path:
    write_samples(tmp_path / "folder", samples)
    return tmp_path / "folder"


@pytest.fixture
def shards(tmp_path: Path, samples: list[UniEditSample]) -> Path:
    write_samples(tmp_path / "shards", samples, per_shard=4)
    return tmp_path / "shards"


def all_entries(path: Path | str) -> Iterator[Entry]:
    for unit in find_units(path):
        yield from entries(unit)


texts = st.text(max_size=30)
numbers, lengths = st.integers(0, 999), st.integers(1, 99)
sizes = st.tuples(lengths, lengths)
boxes = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h),
    *[st.integers(0, 999)] * 2,
    *[st.integers(1, 99)] * 2,
)


@given(
    st.builds(
        UniEditRecord,
        id=st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True),
        split=st.sampled_from(["train", "test"]),
        category=st.sampled_from(["plants", "vehicles", "café chairs"]),
        subcategory=texts,
        ref_size=sizes,
        src_size=sizes,
        ref_box=boxes,
        src_box=boxes,
        prompt=texts,
        licence=texts,
        sha256=st.fixed_dictionaries({part: st.just("ab" * 32) for part in PARTS}),
    )
)
def test_a_record_survives_its_json(record: UniEditRecord) -> None:
    assert parse_record(record.to_json(), "it") == record
    assert parse_record(record.to_json(), "it").to_json() == record.to_json()


def valid_json() -> dict[str, Any]:
    return {
        "id": "a", "split": "train", "category": "Plants", "subcategory": "", "prompt": "",
        "licence": "", "sizes": {"ref": [8, 8], "src": [9, 9]},
        "boxes": {"ref": [0, 0, 8, 8], "src": [1, 1, 2, 2]},
        "sha256": dict.fromkeys(PARTS, "00"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"split": "val"}, "split 'val' is neither train nor test"),
        ({"id": ""}, "id is ''"),
        ({"prompt": None}, "prompt is None: give a text"),
        ({"sizes": {"ref": [8, 8]}}, "sizes is"),
        ({"sizes": {"ref": [8, 8.5], "src": [9, 9]}}, "size of ref is [8, 8.5]"),
        ({"sizes": {"ref": [8, 0], "src": [9, 9]}}, "size of ref is [8, 0]"),
        ({"boxes": {"ref": [0, 0, 8], "src": [1, 1, 2, 2]}}, "box of ref is [0, 0, 8]"),
        ({"boxes": {"ref": [0, 0, 8, 8], "src": [3, 1, 2, 2]}}, "box of src: box 3,1,2,2 is empty"),
        ({"sha256": {}}, "sha256 is {}"),
    ],
)
def test_a_record_that_is_wrong_says_where_and_how(change: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as refusal:
        parse_record(json.dumps(valid_json() | change).encode(), "json of sample 'a'")
    assert str(refusal.value).startswith("json of sample 'a'")
    assert says in str(refusal.value)


def test_other_keys_are_let_be_and_lacking_ones_are_named() -> None:
    record = parse_record(json.dumps(valid_json() | {"source": "a site"}).encode(), "it")
    assert record.category == "plants"
    lacking = valid_json()
    del lacking["boxes"], lacking["licence"]
    with pytest.raises(DataError, match="it lacks boxes, licence"):
        parse_record(json.dumps(lacking).encode(), "it")
    for damaged in (b"", b"{", b"[]", b"\xff\xfe{}", b"[" * 100_000):
        with pytest.raises(DataError, match="it is "):
            parse_record(damaged, "it")


masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)).filter(
    lambda mask: bool(mask.any())
)


@given(masks, masks, st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_masks_come_back_bit_for_bit(
    ref: NDArray[np.bool_], src: NDArray[np.bool_], in_shard: bool
) -> None:
    grey = {name: np.where(mask, 255, 0).astype(np.uint8) for name, mask in
            (("ref", ref), ("src", src))}  # fmt: skip
    written = make_sample(
        id="x",
        split="test",
        category="plants",
        pictures={
            "ref": np.repeat(grey["ref"][..., None], 3, 2),
            "src": np.repeat(grey["src"][..., None], 3, 2),
            "ref_mask": grey["ref"],
            "src_mask": grey["src"],
        },
    )
    with TemporaryDirectory() as place:
        write_samples(Path(place) / "out", [written], per_shard=1 if in_shard else None)
        (entry,) = all_entries(Path(place) / "out")
        read = entry.sample()
    assert read.record == written.record
    assert read.files == written.files
    np.testing.assert_array_equal(read.mask("ref"), grey["ref"])
    np.testing.assert_array_equal(read.mask("src"), grey["src"])
    assert read.record.ref_size == ref.shape[::-1]


def test_shards_and_folders_hold_the_same(
    folder: Path, shards: Path, samples: list[UniEditSample]
) -> None:
    assert [shard.name for shard in find_units(shards)] == [f"data-000{n}.tar" for n in range(3)]
    by_id = {sample.record.id: sample for sample in samples}
    for path in (folder, shards):
        read = [entry.sample() for entry in all_entries(path)]
        assert sorted(sample.record.id for sample in read) == sorted(by_id)
        for sample in read:
            assert sample.files == by_id[sample.record.id].files
            assert sample.record == by_id[sample.record.id].record


def test_the_webdataset_library_reads_our_shards(
    shards: Path, samples: list[UniEditSample]
) -> None:
    pattern = str(shards / "data-{0000..0002}.tar")
    stream = list(webdataset.WebDataset(pattern, shardshuffle=False))
    assert [sample["__key__"] for sample in stream] == [s.record.id for s in samples]
    for streamed, sample in zip(stream, samples, strict=True):
        assert {FILES[part] for part in FILES} <= set(streamed)
        assert streamed["src_mask.png"] == sample.files["src_mask"]
        assert json.loads(streamed["json"])["id"] == sample.record.id


def test_we_read_shards_that_the_webdataset_library_wrote(
    tmp_path: Path, samples: list[UniEditSample]
) -> None:
    pattern = str(tmp_path / "its-%02d.tar")
    with webdataset.ShardWriter(pattern, maxcount=5, verbose=0) as writer:
        for sample in samples:
            parts = {FILES[part]: data for part, data in sample.files.items()}
            key = f"deep/er/{sample.record.id}"
            writer.write({"__key__": key, "json": sample.record.to_json(), **parts})
    read = [entry.sample() for entry in all_entries(str(tmp_path / "its-{00..01}.tar"))]
    assert [sample.files for sample in read] == [sample.files for sample in samples]


def test_writing_is_all_or_nothing(tmp_path: Path, samples: list[UniEditSample]) -> None:
    def failing() -> Iterator[UniEditSample]:
        yield samples[0]
        raise DataError("the source dried up")

    for per_shard in (None, 1):
        with pytest.raises(DataError, match="dried up"):
            write_samples(tmp_path / "out", failing(), per_shard=per_shard)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="comes twice"):
        write_samples(tmp_path / "out", [samples[0], samples[0]])
    with pytest.raises(DataError, match="no samples"):
        write_samples(tmp_path / "out", [])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="not an empty folder"):
        write_samples(tmp_path / "out", samples)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["a.b", "../a", "", "a" * 81, "ü"])
def test_ids_that_no_file_can_have_are_refused(name: str, samples: list[UniEditSample]) -> None:
    with pytest.raises(DataError, match="cannot be a file's name"):
        make_sample(id=name, split="train", category="plants", pictures={})


def test_the_index_numbers_folders_and_shards_alike(folder: Path, shards: Path) -> None:
    one, other = open_index(folder), open_index(shards)
    assert one.counts == other.counts
    assert one.count("train") == COUNT
    assert one.count("train", "portraits") == 2
    assert one.count("test") == 0
    ids = [one.entry("train", place).sample().record.id for place in range(COUNT)]
    assert ids == sorted(ids)
    assert ids == [other.entry("train", place).sample().record.id for place in range(COUNT)]
    assert one.entry("train", 1, "portraits").name == "train-0000008"
    with pytest.raises(DataError, match="no sample 9"):
        one.entry("train", COUNT)
    assert pickle.loads(pickle.dumps(one)) == one


def test_the_index_is_kept_until_the_files_change(folder: Path, shards: Path) -> None:
    first = open_index(shards)
    stamp = first.path.stat().st_mtime_ns
    assert open_index(shards).path.stat().st_mtime_ns == stamp
    (shards / "data-0002.tar").unlink()
    assert open_index(shards).count("train") == COUNT - 1

    assert open_index(folder).count("train") == COUNT
    for path in folder.glob("plants/*"):
        path.unlink()
    assert open_index(folder).count("train") == COUNT - 1
    first.path.write_bytes(b"rubbish")
    assert open_index(shards).count("train") == COUNT - 1


def test_an_index_that_vanishes_is_named(shards: Path) -> None:
    index = open_index(shards)
    index.path.unlink()
    with pytest.raises(DataError, match=r"index .* cannot be read: .*; start again"):
        index.entry("train", 0)


def test_progress_ends_with_the_number_of_samples(shards: Path) -> None:
    seen: list[int] = []
    open_index(shards, seen.append)
    assert seen == [COUNT]


def refusal_of(path: Path | str) -> str:
    with pytest.raises(DataError) as refusal:
        open_index(path)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_what_is_no_data_set_is_refused(tmp_path: Path, folder: Path, shards: Path) -> None:
    assert "does not exist" in refusal_of(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no samples" in refusal_of(tmp_path / "empty")
    (tmp_path / "notes.txt").write_text("hello")
    assert "is no folder and no .tar" in refusal_of(tmp_path / "notes.txt")
    assert "data-0003.tar" in refusal_of(str(shards / "data-{0000..0003}.tar"))


def test_incomplete_samples_and_double_ids_are_named(folder: Path) -> None:
    victim = folder / "plants" / "train-0000003.src.jpg"
    data = victim.read_bytes()
    victim.unlink()
    assert "sample 'plants/train-0000003'" in refusal_of(folder)
    assert "lacks src.jpg" in refusal_of(folder)
    victim.write_bytes(data)
    (folder / "again").mkdir()
    for path in folder.glob("plants/*"):
        (folder / "again" / path.name).write_bytes(path.read_bytes())
    assert "'train-0000003' comes 2 times" in refusal_of(folder)


def test_bad_json_is_named(folder: Path) -> None:
    (folder / "plants" / "train-0000003.json").write_text("{")
    assert refusal_of(folder).startswith("json of sample 'plants/train-0000003'")


@pytest.mark.parametrize("damage", ["cut", "cut in a header", "no end", "garbage", "gzip"])
def test_a_damaged_shard_is_named(damage: str, shards: Path) -> None:
    shard = shards / "data-0001.tar"
    data = bytearray(shard.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage != "gzip":
        with tarfile.open(shard) as tar:
            # the first file of the second sample: the first one is complete
            start = tar.getmembers()[5].offset
        if damage == "garbage":
            data[start : start + 512] = b"\xa5" * 512
        else:
            data = data[: start + (100 if damage == "cut in a header" else 0)]
    else:
        data = bytearray(b"\x1f\x8b" + bytes(data))
    shard.write_bytes(data)
    assert refusal_of(shards).startswith(f"shard {str(shard)!r} cannot be read")


def test_a_truncated_picture_is_named(folder: Path) -> None:
    victim = folder / "plants" / "train-0000003.src.jpg"
    victim.write_bytes(victim.read_bytes()[:-200])
    sample = next(e for e in all_entries(folder) if e.name == "train-0000003").sample()
    with pytest.raises(DataError, match=r"^src.jpg of sample 'plants/train-0000003'.*truncated"):
        sample.picture("src")
    victim.write_bytes(b"<html>")
    sample = next(e for e in all_entries(folder) if e.name == "train-0000003").sample()
    with pytest.raises(DataError, match="no picture of a known kind"):
        sample.picture("src")


def test_a_shard_that_shrinks_after_indexing_is_named(shards: Path) -> None:
    entry = next(entries(shards / "data-0002.tar"))
    (shards / "data-0002.tar").write_bytes((shards / "data-0002.tar").read_bytes()[:1024])
    with pytest.raises(DataError, match="is cut off after"):
        entry.sample()

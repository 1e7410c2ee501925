"""The check finds every way in which a data set can be wrong, and nothing in a sound one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from a2edit.runtime.errors import DataError
from a2edit.training.datasets import DrawnScenes, write_samples
from a2edit.training.datasets.draw import export_source
from a2edit.training.datasets.findings import ERRORS, LISTED, WARNINGS, Finding, Report
from a2edit.training.datasets.sheet import dataset_sheet
from a2edit.training.datasets.uniedit import UniEditSample
from a2edit.training.datasets.validate import validate

SIZE = 64
VICTIM = "train-0000003"


@pytest.fixture(scope="module")
def samples() -> list[UniEditSample]:
    return list(export_source(DrawnScenes(), 8, SIZE, "train"))


@pytest.fixture
def folder(tmp_path: Path, samples: list[UniEditSample]) -> Path:
    write_samples(tmp_path / "data", samples)
    return tmp_path / "data"


def victim(folder: Path, suffix: str) -> Path:
    return folder / "plants" / f"{VICTIM}.{suffix}"


def change_json(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = victim(folder, "json")
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def repaint(folder: Path, suffix: str, change: Callable[[Any], Any]) -> None:
    path = victim(folder, suffix)
    Image.fromarray(change(np.array(Image.open(path)))).save(path)


def check(path: Path | str, **options: Any) -> Report:
    return validate(path, least=SIZE, **options)


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_sound_data_set_is_sound(
    shards: bool, workers: int, samples: list[UniEditSample], tmp_path: Path
) -> None:
    write_samples(tmp_path / "data", samples, per_shard=3 if shards else None)
    done: list[int] = []
    report = check(tmp_path / "data", workers=workers, progress=done.append)
    assert (report.samples, report.faulty, report.errors, report.warnings) == (8, 0, 0, 0)
    assert not report.tally
    assert set(report.counts.values()) == {1}
    assert len(report.counts) == 8
    assert done == list(range(1, 9))


def erase(path: Path) -> None:
    path.unlink()


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: list[tuple[Callable[[Path], None], set[str]]] = [
    (lambda f: erase(victim(f, "src.jpg")), {"missing-file"}),
    (lambda f: erase(victim(f, "json")), {"missing-file"}),
    (lambda f: halve(victim(f, "json")), {"bad-json"}),
    (lambda f: change_json(f, lambda v: v.pop("boxes")), {"bad-json"}),
    (lambda f: change_json(f, lambda v: v.update(id="else")), {"name-differs"}),
    (lambda f: change_json(f, lambda v: v.update(id="train-0000004")), {"name-differs", "same-id"}),
    (lambda f: halve(victim(f, "src.jpg")), {"unreadable-picture", "sha256-differs"}),
    (lambda f: halve(victim(f, "ref_mask.png")), {"unreadable-picture", "sha256-differs"}),
    (lambda f: change_json(f, lambda v: v["sizes"].update(src=[64, 63])), {"size-differs"}),
    (lambda f: repaint(f, "src_mask.png", lambda m: m[:-1]), {"mask-size", "sha256-differs"}),
    (lambda f: repaint(f, "src_mask.png", lambda m: m // 4), {"empty-mask", "sha256-differs",
                                                              "soft-mask"}),
    (lambda f: repaint(f, "ref_mask.png", lambda m: m | 255), {"full-mask", "sha256-differs",
                                                               "box-differs"}),
    (lambda f: change_json(f, lambda v: v["boxes"].update(ref=[0, 0, 3, 3])), {"box-differs"}),
    (lambda f: change_json(f, lambda v: v["sha256"].update(ref="00")), {"sha256-differs"}),
    (lambda f: change_json(f, lambda v: v.update(category="Robots")), {"unknown-category"}),
    (lambda f: change_json(f, lambda v: v.update(prompt=" ")), {"no-prompt"}),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "codes"), DAMAGE)
def test_each_damage_is_named_and_nothing_else(
    damage: Callable[[Path], None], codes: set[str], folder: Path
) -> None:
    damage(folder)
    report = check(folder)
    assert set(report.tally) == codes
    for finding in report.findings:
        assert VICTIM in finding.sample or finding.code == "same-id"
        assert "\n" not in finding.detail
    assert bool(report.errors) == bool(codes & set(ERRORS))
    assert bool(report.warnings) == bool(codes & set(WARNINGS))
    assert report.samples == 8


def test_every_code_has_a_test() -> None:
    covered = {code for _, codes in DAMAGE for code in codes}
    elsewhere = {
        "broken-unit", "leak", "same-picture", "own-reference", "small-picture", "small-object",
    }  # fmt: skip
    assert covered | elsewhere == set(ERRORS) | set(WARNINGS)


def copied(samples: list[UniEditSample], tmp_path: Path, split: str) -> Report:
    """The data set with one sample again, under another name."""
    write_samples(tmp_path / "data", samples)
    for path in (tmp_path / "data").glob(f"*/{VICTIM}.*"):
        data = path.read_bytes()
        if path.suffix == ".json":
            text = data.decode().replace(VICTIM, "again").replace('"train"', f'"{split}"')
            data = text.encode()
        path.with_name(path.name.replace(VICTIM, "again")).write_bytes(data)
    return check(tmp_path / "data")


def test_pictures_that_come_twice_are_a_warning_and_across_splits_a_leak(
    samples: list[UniEditSample], tmp_path: Path
) -> None:
    twice = copied(samples, tmp_path / "1", "train")
    assert dict(twice.tally) == {"same-picture": 2}  # reference and target
    leak = copied(samples, tmp_path / "2", "test")
    assert dict(leak.tally) == {"leak": 2}
    assert leak.errors == 2
    assert "the same ref in 2 samples of train and test" in leak.findings[0].detail


def test_a_reference_that_is_the_target_is_named(folder: Path) -> None:
    for suffix in (".jpg", "_mask.png"):
        victim(folder, f"ref{suffix}").write_bytes(victim(folder, f"src{suffix}").read_bytes())

    def follow(value: dict[str, Any]) -> None:
        for key in ("boxes", "sizes"):
            value[key]["ref"] = value[key]["src"]
        value["sha256"].update(ref=value["sha256"]["src"], ref_mask=value["sha256"]["src_mask"])

    change_json(folder, follow)
    assert dict(check(folder).tally) == {"own-reference": 1}


def test_small_things_are_named(folder: Path) -> None:
    tally = validate(folder, least=SIZE * 8).tally
    assert tally["small-picture"] == 16
    assert tally["small-object"] >= 8


def test_a_damaged_shard_does_not_hide_the_others(
    samples: list[UniEditSample], tmp_path: Path
) -> None:
    write_samples(tmp_path / "data", samples, per_shard=3)
    halve(tmp_path / "data" / "data-0001.tar")
    report = check(tmp_path / "data")
    assert report.tally["broken-unit"] == 1
    assert 5 <= report.samples < 8
    assert "data-0001.tar" in next(f for f in report.findings if f.code == "broken-unit").unit


def test_without_samples_there_is_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no samples"):
        check(tmp_path)


def test_all_findings_are_counted_and_the_first_are_listed() -> None:
    report = Report("somewhere")
    for number in range(LISTED + 50):
        report.add(Finding("no-prompt", str(number), "", "the prompt is empty"))
    assert report.warnings == report.to_json()["tally"]["no-prompt"] == LISTED + 50
    assert len(report.to_json()["findings"]) == LISTED


def test_the_json_holds_what_a_machine_needs(folder: Path) -> None:
    erase(victim(folder, "src.jpg"))
    value = json.loads(json.dumps(check(folder).to_json()))
    assert value["counts"]["plants"] == {"train": 1}
    assert (value["samples"], value["faulty_samples"], value["errors"]) == (8, 1, 1)
    (finding,) = value["findings"]
    assert (finding["severity"], finding["code"]) == ("error", "missing-file")


def test_the_sheet_shows_sound_samples_of_each_category(folder: Path) -> None:
    halve(victim(folder, "src.jpg"))
    report = check(folder, picks=2)
    assert "plants" not in report.picks
    assert len(report.picks) == 7
    sheet = dataset_sheet(report.picks)
    assert sheet.width > 3 * 160
    assert sheet.height > 7 * 160
    assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 1000
    assert check(folder, picks=2).picks == report.picks

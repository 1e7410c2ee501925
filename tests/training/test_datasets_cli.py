"""`a2edit-train data`: draws, checks and converts, and refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from a2edit.training.cli import main
from a2edit.training.datasets import UniEditSource


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*options: str | Path) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, options)])


def done(*options: str | Path) -> str:
    result = run(*options)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*options: str | Path) -> str:
    result = run(*options)
    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_draw_check_and_read(tmp_path: Path) -> None:
    assert done("draw", tmp_path / "d", "--count", "8", "--size", "64") == (
        f"8 samples: {tmp_path / 'd'}\n"
    )
    said = done(
        "check", tmp_path / "d", "--min-side", "64", "--workers", "1",
        "--sheet", tmp_path / "sheet.png", "--json", tmp_path / "report.json", "--strict",
    )  # fmt: skip
    assert "8 samples" in said
    assert "nothing is wrong" in said
    assert json.loads((tmp_path / "report.json").read_text())["errors"] == 0
    assert Image.open(tmp_path / "sheet.png").width > 400
    assert UniEditSource(tmp_path / "d").sample(0, 32).scene.shape == (32, 32, 3)


def test_shards_of_held_out_kinds(tmp_path: Path) -> None:
    options = ("--count", "5", "--size", "64", "--split", "held_out", "--shards", "--per-shard")
    done("draw", tmp_path / "d", *options, "2")
    names = sorted(path.name for path in (tmp_path / "d").iterdir())
    assert names == ["data-0000.tar", "data-0001.tar", "data-0002.tar"]
    done("check", tmp_path / "d" / "data-{0000..0002}.tar", "--min-side", "64")
    source = UniEditSource(tmp_path / "d")
    assert (source.count(), source.count("held_out")) == (0, 5)


def test_the_index_is_made_ahead(tmp_path: Path) -> None:
    done("draw", tmp_path / "d", "--count", "3", "--size", "64")
    said = done("index", tmp_path / "d")
    assert said.startswith("3 train, 0 test in ")
    place = Path(said.rsplit(": ", 1)[1].strip())
    stamp = place.stat().st_mtime_ns
    done("index", tmp_path / "d")
    assert place.stat().st_mtime_ns == stamp
    done("index", tmp_path / "d", "--again")
    assert place.stat().st_mtime_ns > stamp
    assert "does not exist" in refused("index", tmp_path / "nowhere")


def test_errors_and_strictness_are_exit_code_2(tmp_path: Path) -> None:
    done("draw", tmp_path / "d", "--count", "2", "--size", "64")
    done("check", tmp_path / "d")  # small pictures are warnings
    assert "0 errors and 8 warnings" in refused("check", tmp_path / "d", "--strict", "--min-side",
                                                "512")  # fmt: skip
    victim = tmp_path / "d" / "portraits" / "train-0000000.src_mask.png"
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(victim)
    report = tmp_path / "report.json"
    result = run("check", tmp_path / "d", "--json", report)
    assert result.exit_code == 2
    assert "empty-mask" in result.stdout
    assert "2 errors" in result.stderr
    codes = {finding["code"] for finding in json.loads(report.read_text())["findings"]}
    assert {"empty-mask", "sha256-differs"} <= codes


def test_refusals_are_one_line(tmp_path: Path) -> None:
    assert "does not exist" in refused("check", tmp_path / "nowhere")
    assert "--count" in refused("draw", tmp_path / "d")
    done("draw", tmp_path / "d", "--count", "1", "--size", "64")
    assert "not an empty folder" in refused("draw", tmp_path / "d", "--count", "1")
    assert "suffix" in refused("check", tmp_path / "d", "--sheet", tmp_path / "sheet.txt")
    nowhere = tmp_path / "nowhere" / "report.json"
    assert "does not exist: create" in refused("check", tmp_path / "d", "--json", nowhere)
    assert "is no NAME=CATEGORY" in refused(
        "import-insert-anything", tmp_path, tmp_path / "o", "--category", "book"
    )
    assert "holds ref_image" in refused("import-insert-anything", tmp_path / "d", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_import(tmp_path: Path) -> None:
    group = tmp_path / "any" / "object"
    mask = np.zeros((64, 64), np.uint8)
    mask[10:30, 5:40] = 255
    for folder in ("ref_image", "ref_mask", "tar_image", "tar_mask"):
        (group / folder).mkdir(parents=True)
        picture = mask if folder.endswith("mask") else np.full((64, 64, 3), len(folder), np.uint8)
        Image.fromarray(picture).save(group / folder / "7.png")
    source, out = tmp_path / "any", tmp_path / "out"
    assert "--category 'object=CATEGORY'" in refused("import-insert-anything", source, out)
    done("import-insert-anything", source, out, "--category", "object=furniture", "--shards")
    assert [path.name for path in out.iterdir()] == ["data-0000.tar"]
    done("check", out, "--min-side", "64")
    assert UniEditSource(out).categories == ("furniture",)

"""Job lists: in order, resumable, and no failure stops the rest."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from a2edit.runtime.cli import main
from a2edit.runtime.images import save_picture

GOOD = {"image": "scene.png", "mask": "mask.png", "reference": "red.png", "steps": 1}


def write(pictures: Path, *lines: object) -> Path:
    path = pictures / "jobs.jsonl"
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(text) + "\n")
    return path


def run(jobs: Path, out: Path, bundle: Path) -> Result:
    arguments = ["--jobs", str(jobs), "--out-dir", str(out), "--bundle", str(bundle)]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_jobs_run_resume_and_follow_changes(pictures: Path, bundle: Path, out: Path) -> None:
    two = {"id": "two", **GOOD, "reference": "blue.png", "boxes": [[5, 5, 30, 30]]}
    result = run(write(pictures, GOOD, "", two), out, bundle)
    assert result.exit_code == 0, result.output
    assert "2 done, 0 skipped, 0 failed" in result.stdout
    assert names(out) == ["0001.png", "two.png"]
    assert Image.open(out / "two.png").info["a2edit:route"] == "blue"

    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert "0 done, 2 skipped" in run(pictures / "jobs.jsonl", out, bundle).stdout
    (out / "0001.png").unlink()
    assert "1 done, 1 skipped" in run(pictures / "jobs.jsonl", out, bundle).stdout
    assert (out / "two.png").stat().st_mtime_ns == times["two.png"]

    # another line under the same id is another edit; so is a file that is not ours
    write(pictures, GOOD, {**two, "seed": 8})
    (out / "0001.png").write_bytes(b"half a file")
    assert "2 done, 0 skipped" in run(pictures / "jobs.jsonl", out, bundle).stdout
    assert Image.open(out / "two.png").info["a2edit:seed"] == "8"


def test_jobs_are_grouped_by_route(
    pictures: Path, bundle: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []

    def record(image: Image.Image, path: Path, text: dict[str, str]) -> None:
        saved.append(text["a2edit:route"])
        save_picture(image, path, text)

    monkeypatch.setattr("a2edit.runtime.jobs.save_picture", record)
    lines = [{**GOOD, "reference": f"{name}.png"} for name in ("red", "blue", "red", "blue")]
    result = run(write(pictures, *lines), out, bundle)
    assert "4 done" in result.stdout
    assert saved == ["red", "red", "blue", "blue"]
    assert names(out) == ["0001.png", "0002.png", "0003.png", "0004.png"]
    assert Image.open(out / "0002.png").info["a2edit:route"] == "blue"


def test_another_tolerance_is_another_edit(pictures: Path, bundle: Path, out: Path) -> None:
    jobs = write(pictures, GOOD)
    assert "1 done" in run(jobs, out, bundle).stdout
    arguments = ["--jobs", str(jobs), "--out-dir", str(out), "--bundle", str(bundle)]
    again = CliRunner().invoke(main, [*arguments, "--route-tolerance", "0"])
    assert "1 done, 0 skipped" in again.stdout
    assert Image.open(out / "0001.png").info["a2edit:supply"] == "merged"
    again = CliRunner().invoke(main, [*arguments, "--route-tolerance", "0"])
    assert "0 done, 1 skipped" in again.stdout


def test_a_failure_does_not_stop_the_rest(pictures: Path, bundle: Path, out: Path) -> None:
    lines = (
        {**GOOD, "mask": "none.png"},
        "{not json",
        {**GOOD, "colour": "red"},
        {"mask": "mask.png"},
        {**GOOD, "steps": 0},
        {**GOOD, "id": "../up"},
        {**GOOD, "boxes": "1,2,3,4"},
        {**GOOD, "image": 3},
        ["a", "list"],
        {**GOOD, "boxes": [[0, 0, 1e999, 9]]},
        "[" * 100_000,
        {**GOOD, "id": "x" * 300},
        json.dumps({**GOOD, "id": "last", "prompt": "two\u2028lines"}, ensure_ascii=False),
    )
    result = run(write(pictures, *lines), out, bundle)
    assert result.exit_code == 1
    assert names(out) == ["last.png"]
    assert "1 done, 0 skipped, 12 failed" in result.stdout
    errors = result.stderr.splitlines()
    assert len(errors) == 12
    for number, (error, words) in enumerate(
        zip(
            errors,
            (
                "none.png' does not exist",
                "not JSON",
                "unknown keys colour; known are id, image",
                "image and reference missing",
                "steps must be between",
                "cannot be a file's name",
                "boxes must be a list",
                "image must be a path",
                "not a JSON object",
                "not four whole numbers",
                "not JSON",
                "cannot be written: File name too long",
            ),
            strict=True,
        ),
        1,
    ):
        assert error.startswith("error: ")
        assert f"jobs.jsonl:{number} " in error
        assert words in error


def test_no_output_takes_the_place_of_an_input(pictures: Path, bundle: Path) -> None:
    before = (pictures / "scene.png").read_bytes()
    lines = {**GOOD, "id": "scene"}, {**GOOD, "id": "other"}
    result = run(write(pictures, *lines), pictures, bundle)
    assert result.exit_code == 1
    assert "scene.png' is an input of the list: give another id" in result.stderr
    assert "1 done, 0 skipped, 1 failed" in result.stdout
    assert (pictures / "scene.png").read_bytes() == before


def test_bad_lists_are_refused(pictures: Path, bundle: Path, out: Path) -> None:
    cases = [
        (write(pictures, ""), out, "is empty"),
        (pictures / "none.jsonl", out, "does not exist: give a file"),
        (pictures / "scene.png", out, "cannot be read"),
    ]
    for jobs, folder, message in cases:
        result = run(jobs, folder, bundle)
        assert result.exit_code == 2
        assert message in result.stderr
    result = run(write(pictures, {**GOOD, "id": "a"}, {**GOOD, "id": "a"}), out, bundle)
    assert "lines 1 and 2 have the same id 'a'" in result.stderr
    result = run(write(pictures, GOOD), out / "nowhere", bundle)
    assert result.exit_code == 2
    assert "nowhere' does not exist: create it first" in result.stderr
    result = CliRunner().invoke(main, ["--jobs", str(pictures / "jobs.jsonl")])
    assert result.exit_code == 2
    assert "--jobs needs --out-dir" in result.stderr

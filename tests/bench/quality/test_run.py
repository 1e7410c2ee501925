"""From subjects to rows: a model is scored like the baselines, tables mean what they say."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from a2edit.bench.cli import main
from a2edit.bench.quality.baselines import pasted
from a2edit.bench.quality.drawn import drawn_subjects
from a2edit.bench.quality.measure import Score
from a2edit.bench.quality.report import Report, report_page
from a2edit.bench.quality.run import MODEL, Outcome, rows_of, run
from a2edit.bench.quality.sheets import Edit, Sheet
from a2edit.bench.quality.sides import BundleSide, CheckpointSide, Painted, uncomposed
from a2edit.bench.quality.subject import Subject, Task, task
from a2edit.bench.quality.tables import Difference, against_fine, means, table, tables_of
from a2edit.bench.rows import Setup
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.settings import BuildSettings
from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts
from a2edit.runtime.boxes import Box
from a2edit.runtime.editor import Editor

pytest.importorskip("skimage")


class Painter:
    """A side that answers by a function, and notes what it was asked."""

    name, steps = "painter", 4

    def __init__(self, paint: Callable[[Task], Painted]) -> None:
        self.answer, self.asked = paint, list[tuple[str, str, int | None]]()

    def paint(self, task: Task, steps: int | None = None, seed: int = 0) -> Painted:
        self.asked.append((task.subject.name, task.kind, steps))
        return self.answer(task)


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    return drawn_subjects(1)[:3]


@pytest.fixture(scope="module")
def outcome(subjects: list[Subject], truth: Callable[[Task], Painted]) -> Outcome:
    return run(Painter(truth), subjects, ("fine", "box"), 2)


def test_every_task_is_painted_once_and_in_order(subjects: list[Subject]) -> None:
    painter, seen = Painter(pasted), list[tuple[str, str]]()
    outcome = run(
        painter,
        subjects[:2],
        ("fine", "scribble"),
        7,
        scorers=[lambda _, answer: {"lpips": float(answer.picture.shape[0])}],
        each=lambda side, answer, _: seen.append((side, answer.task.kind)),
    )
    names = [subject.name for subject in subjects[:2]]
    assert painter.asked == [(name, kind, 7) for name in names for kind in ("fine", "scribble")]
    assert seen[:3] == [(side, "fine") for side in (MODEL, "mean colour", "pasting")]
    assert outcome.steps == 7
    heights = [subject.scene.height for subject in subjects[:2] for _ in range(2)]
    assert [one.values["lpips"] for one in outcome.scores[MODEL]] == heights
    assert outcome.scores[MODEL][0].values == {
        **outcome.scores["pasting"][0].values,
        "lpips": heights[0],
    }


def test_the_truth_wins_everything(outcome: Outcome) -> None:
    best = means(outcome.scores[MODEL])
    assert best["closer"] == 100
    assert best["psnr_object"] == best["psnr_mask"] == 100
    assert best["kept"] == 100
    for baseline in ("mean colour", "pasting"):
        other = means(outcome.scores[baseline])
        assert other["psnr_object"] < 30
        assert other["edges"] < best["edges"]
        assert other["ssim_mask"] < best["ssim_mask"]


def test_rows_are_of_the_model_and_the_baselines(outcome: Outcome) -> None:
    rows = rows_of(outcome, Setup.here("quality", outcome.name, outcome.steps))
    subjects = [row.subject for row in rows]
    assert len(set(subjects)) == len(subjects)
    assert "model: drawn, fine: own closer" in subjects
    assert "pasting: drawn, box: PSNR object" in subjects
    closer = next(row for row in rows if row.subject == "model: drawn, fine: own closer")
    assert (closer.n, closer.p50) == (1, 100)


def score(kind: str, closer: float, psnr: float, comparisons: int = 4, subject: str = "a") -> Score:
    return Score(
        side=MODEL,
        subject=subject,
        group="drawn",
        category="plants",
        kind=kind,  # type: ignore[arg-type]  # a kind by its name
        values={"closer": closer, "psnr_object": psnr},
        comparisons=comparisons,
    )


def test_closer_is_a_share_of_comparisons() -> None:
    mean = means([score("fine", 100, 20, 1), score("fine", 50, 10, 3)])
    assert mean == {"closer": 62.5, "psnr_object": 15}


def test_tables_group_in_order_and_leave_empty_columns_out() -> None:
    scores = [score("rough", 100, 20), score("fine", 50, 10), score("rough", 0, 30)]
    made = table("by mask", scores, ("mask",), lambda one: (one.kind,))
    assert made.metrics == ("closer", "psnr_object")
    assert list(made.rows) == [("rough",), ("fine",)]
    assert made.rows["rough",] == {"closer": 50, "psnr_object": 25}
    assert made.counts["rough",] == 2


def test_kinds_are_compared_on_the_same_subjects_only() -> None:
    scores = [
        score("fine", 100, 20, subject="a"),
        score("box", 75, 19, subject="a"),
        score("fine", 0, 1, subject="b"),  # has no box
        score("box", 0, 1, subject="c"),  # has no fine
    ]
    (found,) = against_fine(scores)
    assert (found.kind, found.pairs, found.closer, found.psnr_object) == ("box", 1, -25, -1)


def test_held_out_categories_stand_apart() -> None:
    scores = [score("fine", 100, 20), replace(score("fine", 0, 10), category="garments")]
    sets: dict[tuple[str, ...], dict[str, float]] = {(MODEL, "drawn", "fine"): {"fid": 7.0}}
    by_mask, apart, by_category = tables_of({MODEL: scores}, MODEL, sets, ("garments",))
    assert by_mask.rows[MODEL, "fine"] == {"closer": 50, "psnr_object": 15, "fid": 7}
    assert apart.rows["left out", "fine"] == {"closer": 0, "psnr_object": 10}
    assert apart.rows["seen", "fine"] == {"closer": 100, "psnr_object": 20}
    assert list(by_category.rows) == [("plants",), ("garments (left out)",)]
    assert len(tables_of({MODEL: scores}, MODEL, {})) == 2


def test_the_report_marks_the_best_and_escapes_names() -> None:
    scores = {
        side: [replace(score("fine", closer, psnr), side=side, subject="<a&b>")]
        for side, closer, psnr in ((MODEL, 90, 20), ("pasting", 95, 10))
    }
    edit = Edit("fine", "data:,1", "data:,2", scores[MODEL][0], "data:,3")
    sheet = Sheet("<a&b>", "drawn", "plants", "data:,4", "data:,5", [edit])
    page = report_page(
        Report(
            setup=Setup.here("quality", "<model>", 4),
            source="one object",
            tables=tables_of(scores, MODEL, {}),
            differences=[Difference("drawn", "box", 3, -1.5, 0.25)],
            sheets=[sheet],
            notes=["nothing"],
        )
    )
    assert "<a&b>" not in page
    assert "&lt;a&amp;b&gt;" in page
    assert '<td class="best">95.0</td>' in page  # pasting's colours
    assert '<td class="best">20.00</td>' in page  # the model's decibels
    assert "<td>90.0</td>" in page
    assert "<td>-1.5</td>" in page
    assert "own closer 90.0" in page
    assert "prefers-color-scheme: dark" in page


def test_the_window_is_laid_over_the_scene() -> None:
    scene = np.full((60, 80, 3), 50, np.uint8)
    raw, seen = uncomposed(scene, np.full((16, 16, 3), 200, np.uint8), Box(60, -20, 100, 20))
    assert (raw[:20, 60:] == 200).all()
    assert seen.sum() == 20 * 20
    assert (raw[~seen] == 50).all()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    made = new_checkpoint(TINY, folder / "tokenizers")
    randomise_experts(made)
    made.save(folder / "tiny", torch.float32)
    return folder / "tiny"


def test_a_checkpoint_is_scored_raw_as_well(checkpoint: Path, subjects: list[Subject]) -> None:
    with CheckpointSide(str(checkpoint)) as side:
        answer = side.paint(task(subjects[0], "box"), steps=1)
    assert answer.raw is not None
    assert answer.seen is not None
    scene, region = np.asarray(subjects[0].scene), task(subjects[0], "box").region >= 128
    assert (answer.raw[~answer.seen] == scene[~answer.seen]).all()
    # well inside of the mask, composing takes the model's pixels as they are
    assert (answer.picture[region] == answer.raw[region]).all()
    outside = answer.seen & ~region
    assert (answer.raw[outside] != answer.picture[outside]).mean() > 0.5


@pytest.mark.slow
def test_a_bundle_paints_what_its_checkpoint_paints(
    checkpoint: Path, subjects: list[Subject], tmp_path: Path
) -> None:
    """Recording the decoder changes nothing, and both sides record the same picture."""
    settings = BuildSettings(
        model=str(checkpoint), out=tmp_path / "tiny", routes=1, samples=4, precision="fp32"
    )
    build(settings, Silent())
    asked = task(subjects[0], "rough")
    with BundleSide(tmp_path / "tiny") as side:
        answer, again = side.paint(asked, steps=1), side.paint(asked, steps=1)
        assert side.steps > 1
    with Editor.open(tmp_path / "tiny") as editor:
        plain = np.asarray(editor.edit(asked.request(steps=1)).image)
    assert (answer.picture == plain).all()
    assert (again.picture == plain).all()
    assert answer.raw is not None
    assert answer.seen is not None
    region = asked.region >= 128
    assert (answer.picture[region] == answer.raw[region]).all()
    assert answer.seconds > 0
    assert answer.active >= 1


def command(*options: str) -> Result:
    return CliRunner().invoke(main, ["quality", *options])


def test_the_command_scores_a_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    done = command(
        *("--model", str(checkpoint), "--groups", "drawn", "--limit", "2", "--steps", "1"),
        *("--masks", "fine,box", "--results", str(tmp_path), "--json", str(tmp_path / "q.json")),
        *("--report", str(tmp_path / "report/q.html"), "--held-out", "garments"),
    )
    assert done.exit_code == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "box against fine over 2 pairs" in said
    assert "garments (left out)" in said
    assert "Not measured: CLIP-I, DINO-I, LPIPS, FID" in said
    assert "Not measured: VLM score" in said
    page = (tmp_path / "report/q.html").read_text(encoding="utf-8")
    assert page.count("<article>") == 2
    # reference and truth of each, and mask, edit and paste of each kind
    assert page.count("<img ") == page.count('src="data:image/jpeg;base64,') == 2 * (2 + 2 * 3)
    assert "http" not in page
    assert "Not measured: VLM score" in page
    assert (tmp_path / "quality.csv").read_text(encoding="utf-8").count("drawn, box") > 4
    found = json.loads((tmp_path / "q.json").read_text(encoding="utf-8"))
    assert len(found["scores"]) == 3 * 2 * 2
    first = found["scores"][0]["values"]
    assert {"raw_psnr_band", "raw_psnr_outside", "seconds", "active"} <= set(first)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--masks", "fine,round"), "give any of fine, rough"),
        (("--groups", "drawings"), "drawn, photographs, scenes"),
        (("--model", "a", "--bundle", "b"), "one of them"),
        (("--model", "no-such-model"), "no-such-model"),
        (("--bundle", "no-such-bundle"), "no-such-bundle"),
        (("--clip", "/nowhere/clip"), "--clip /nowhere/clip"),
        (("--lpips", "/nowhere.pth"), "no such file"),
        (("--vlm-url", "http://127.0.0.1:1/v1"), "go together"),
        (("--vlm-url", "there", "--vlm-model", "judge"), "is no address"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(
    options: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    report = str(tmp_path / "report.html")
    done = command(*options, "--results", str(tmp_path / "results"), "--report", report)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []

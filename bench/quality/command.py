"""`a2edit-bench quality`: held-out edits in several kinds of mask, scored and reported."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from a2edit.bench.quality.catalogue import GROUPS, Choice, chosen
from a2edit.bench.quality.metric import METRICS
from a2edit.bench.quality.run import MODEL, Outcome, rows_of, run
from a2edit.bench.quality.scorers import Scorers
from a2edit.bench.quality.show import SHOWN, show_differences, show_table
from a2edit.bench.quality.sides import BundleSide, CheckpointSide
from a2edit.bench.quality.subject import COMPARED, MASK_KINDS, MaskKind
from a2edit.bench.quality.tables import against_fine, tables_of
from a2edit.bench.rows import Setup, append_rows
from a2edit.runtime.commands import Command
from a2edit.runtime.errors import RequestError
from a2edit.runtime.images import atomic_path

BUNDLE = Path("build/a2edit-mini")


class Names(click.ParamType[tuple[str, ...]]):
    """Names with commas between them, each one of those allowed."""

    name = "names"

    def __init__(self, allowed: tuple[str, ...] = ()) -> None:
        self.allowed = allowed

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(",") if part.strip())
        unknown = [name for name in names if self.allowed and name not in self.allowed]
        if unknown or not names:
            self.fail(f"{value!r}: give any of {', '.join(self.allowed)}, with commas", param, ctx)
        return names


def _options(function: Callable[..., None]) -> Callable[..., None]:
    path = click.Path(path_type=Path)
    options = (
        click.option("--bundle", type=path, help=f"The bundle.  [{BUNDLE}]"),
        click.option("--model", help="Instead: a checkpoint, through the torch reference."),
        click.option("--steps", type=click.IntRange(min=1), help="Default: the model's."),
        click.option("--masks", type=Names(MASK_KINDS), default=COMPARED, help="Kinds, commas."),
        click.option(
            "--groups", type=Names(GROUPS), default=GROUPS[:2], help=f"Of {', '.join(GROUPS)}."
        ),
        click.option("--data", type=path, help="A UniEdit data set instead of the groups."),
        click.option("--categories", type=Names(), default=(), help="Only these, commas."),
        click.option(
            "--held-out", type=Names(), default=(), help="Categories left out of training, commas."
        ),
        click.option("--all", "everything", is_flag=True, help="Every layout, not one an object."),
        click.option("--limit", type=click.IntRange(min=1), help="At most N subjects a group."),
        click.option("--clip", metavar="DIR|ID", help="CLIP's weights: adds CLIP-I."),
        click.option("--dino", metavar="DIR|ID", help="DINO's weights: adds DINO-I."),
        click.option("--lpips", type=path, help="torchvision's AlexNet file: adds LPIPS."),
        click.option("--fid", type=path, help="FID's Inception file: adds FID."),
        click.option("--vlm-url", help="OpenAI-compatible endpoint (…/v1): adds the VLM score."),
        click.option("--vlm-model", help="The judge's name there; key: OPENAI_API_KEY."),
        click.option("--results", type=path, default="bench/results", show_default=True),
        click.option("--report", type=path, default="out/quality.html", show_default=True),
        click.option("--json", "json_path", type=path, help="Every figure of every edit, here."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command(cls=Command)
@_options
def quality(
    bundle: Path | None,
    model: str | None,
    steps: int | None,
    masks: tuple[MaskKind, ...],
    held_out: tuple[str, ...],
    results: Path,
    report: Path,
    json_path: Path | None,
    **options: Any,
) -> None:
    """Held-out edits against the truth, the other references, and two baselines.

    Rows go to RESULTS/quality.csv, sheets and tables to one HTML file. Without options: one
    layout of every drawn object and a dozen with photographs, four kinds of mask each.
    """
    from a2edit.bench.quality.report import Report, report_page
    from a2edit.bench.quality.sheets import Sheets

    if bundle and model:
        raise RequestError("--bundle and --model are two things to score: give one of them")
    console = Console()
    scorers = Scorers(options)
    sheets = Sheets()
    with CheckpointSide(model) if model else BundleSide(bundle or BUNDLE) as side:
        subjects = chosen(Choice(**options))
        _check_held_out(held_out, {subject.category for subject in subjects})
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            bar = progress.add_task("editing", total=len(subjects) * len(masks))

            def each(name: str, *painted: Any) -> None:
                sheets.add(name, *painted)
                progress.advance(bar, name == MODEL)

            outcome = run(side, subjects, masks, steps, scorers.all(), each)
    outcome = replace(outcome, sets=scorers.sets())
    setup = Setup.here("quality", outcome.name, outcome.steps)
    differences, notes = against_fine(outcome.scores[MODEL]), scorers.notes()
    for table in tables_of(outcome.scores, MODEL, outcome.sets, held_out, SHOWN):
        console.print(show_table(table), "")
    show_differences(console, differences)
    for note in notes:
        console.print(note)
    append_rows(results / "quality.csv", rows_of(outcome, setup))
    page = report_page(
        Report(
            setup=setup,
            source=_source(len(subjects), len(masks), options["data"]),
            tables=tables_of(outcome.scores, MODEL, outcome.sets, held_out),
            differences=differences,
            sheets=sheets.all(),
            notes=notes,
        )
    )
    _write(report, page)
    if json_path:
        _write(json_path, json.dumps(as_json(outcome, setup), indent=1))
    console.print(f"appended to {results / 'quality.csv'}; look at [bold]{report}[/]")


def as_json(outcome: Outcome, setup: Setup) -> dict[str, Any]:
    """Everything that was measured, edit by edit, and of whole sets."""
    return {
        "setup": asdict(setup),
        "metrics": {key: asdict(metric) for key, metric in METRICS.items()},
        "scores": [asdict(one) for one in outcome.all_scores()],
        "sets": [{"of": list(key), **values} for key, values in outcome.sets.items()],
    }


def _source(subjects: int, kinds: int, data: Path | None) -> str:
    if data is not None:
        return f"{subjects} samples of {data}, each with {kinds} kinds of mask"
    return (
        f"{subjects} objects in scenes, each with {kinds} kinds of mask and nothing else changed; "
        "the truth is the object seen again: turned, stretched and lit otherwise"
    )


def _check_held_out(held_out: tuple[str, ...], known: set[str]) -> None:
    if unknown := [name for name in held_out if name not in known]:
        raise RequestError(
            f"--held-out {','.join(unknown)}: no such category here: {', '.join(sorted(known))}"
        )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")

"""`a2edit-bench quality`: held-out cases in several kinds of mask, scored and reported."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Shown

from a2edit.bench.quality.catalogue import GROUPS, Choice, chosen
from a2edit.bench.quality.metric import METRICS
from a2edit.bench.quality.run import MODEL, Outcome, rows_of, run
from a2edit.bench.quality.sides import BundleSide, CheckpointSide
from a2edit.bench.quality.subject import COMPARED, MASK_KINDS, MaskKind
from a2edit.bench.quality.tables import Table, against_fine, table
from a2edit.bench.rows import Setup, append_rows
from a2edit.runtime.commands import Command
from a2edit.runtime.errors import RequestError
from a2edit.runtime.images import atomic_path

BUNDLE = Path("build/a2edit-mini")
# On the console; JSON and report have everything.
SHOWN = ("closer", "psnr_mask", "psnr_object", "edges", "raw_psnr_band",
         "clip_i", "dino_i", "lpips", "fid", "vlm")  # fmt: skip


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


@click.command(cls=Command)
@click.option("--bundle", type=click.Path(path_type=Path), help=f"The bundle.  [{BUNDLE}]")
@click.option("--model", help="A checkpoint instead, through the torch reference: name or folder.")
@click.option("--masks", type=Names(MASK_KINDS), default=COMPARED, help="Kinds of mask, commas.")
@click.option(
    "--groups", type=Names(GROUPS), default=GROUPS[:2], help="Of drawn, photographs, scenes."
)
@click.option("--data", type=click.Path(path_type=Path), help="A UniEdit data set instead.")
@click.option("--categories", type=Names(), default=(), help="Only these categories, commas.")
@click.option("--all", "everything", is_flag=True, help="Every layout, not one an object.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many subjects a group.")
@click.option("--steps", type=click.IntRange(min=1), help="Default: the model's.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("bench/results"),
    show_default=True,
    help="Folder whose quality.csv the rows are appended to.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Every figure, here.")
def quality(
    bundle: Path | None,
    model: str | None,
    masks: tuple[MaskKind, ...],
    steps: int | None,
    results: Path,
    json_path: Path | None,
    **choice: Any,
) -> None:
    """Held-out edits against the truth, the other references, and two baselines."""
    if bundle and model:
        raise RequestError("--bundle and --model are two things to score: give one of them")
    console = Console()
    open_side = CheckpointSide(model) if model else BundleSide(bundle or BUNDLE)
    with open_side as side:
        subjects = chosen(Choice(**choice))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            bar = progress.add_task("editing", total=len(subjects) * len(masks))
            outcome = run(
                side,
                subjects,
                masks,
                steps,
                each=lambda name, *_: progress.advance(bar, name == MODEL),
            )
    setup = Setup.here("quality", outcome.name, outcome.steps)
    _print(console, outcome)
    append_rows(results / "quality.csv", rows_of(outcome, setup))
    console.print(f"appended to {results / 'quality.csv'}")
    if json_path:
        with atomic_path(json_path) as path:
            path.write_text(json.dumps(as_json(outcome, setup), indent=1), encoding="utf-8")


def as_json(outcome: Outcome, setup: Setup) -> dict[str, Any]:
    """Everything that was measured, edit by edit."""
    return {
        "setup": asdict(setup),
        "metrics": {key: asdict(metric) for key, metric in METRICS.items()},
        "scores": [asdict(one) for one in outcome.all_scores()],
    }


def _print(console: Console, outcome: Outcome) -> None:
    scores, own = outcome.all_scores(), outcome.scores[MODEL]
    for group in dict.fromkeys(one.group for one in scores):
        of_group = [one for one in scores if one.group == group]
        by_kind = table(group, of_group, ("side", "mask"), lambda s: (s.side, s.kind), SHOWN)
        console.print(_shown(by_kind), "")
    by_category = table("by category", own, ("category",), lambda s: (s.category,), SHOWN)
    console.print(_shown(by_category), "")
    for found in against_fine(own):
        console.print(
            f"{found.group}, {found.kind} against fine over {found.pairs} pairs: own closer "
            f"{found.closer:+.1f} points, object {found.psnr_object:+.2f} dB"
        )


def _shown(figures: Table) -> Shown:
    shown = Shown(
        box=None, header_style="bold", title=figures.title, title_justify="left", title_style="bold"
    )
    for head in figures.heads:
        shown.add_column(head, no_wrap=True)
    shown.add_column("n", justify="right")
    for metric in figures.metrics:
        shown.add_column(METRICS[metric].title, justify="right", min_width=6)
    for key, row in figures.rows.items():
        cells = (METRICS[metric].text(row.get(metric)) for metric in figures.metrics)
        shown.add_row(*key, str(figures.counts[key]), *cells)
    return shown

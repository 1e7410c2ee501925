"""`a2edit-train data`: check, convert and draw data sets."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from a2edit.runtime.commands import Command, Group
from a2edit.runtime.errors import DataError
from a2edit.runtime.images import atomic_path, check_output, save_picture
from a2edit.training.datasets.draw import LICENCE, export_source
from a2edit.training.datasets.index import open_index
from a2edit.training.datasets.insert_anything import convert, find_pairs
from a2edit.training.datasets.record import SPLITS
from a2edit.training.datasets.report import print_report
from a2edit.training.datasets.sheet import dataset_sheet
from a2edit.training.datasets.source import DrawnScenes
from a2edit.training.datasets.validate import LEAST_SIDE, validate
from a2edit.training.datasets.write import write_samples
from a2edit.training.scenes import Split

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_SHARDS = click.option(
    "--shards", is_flag=True, help="Write WebDataset shards in place of plain files."
)
_PER_SHARD = click.option(
    "--per-shard",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Samples in a shard.",
)


@click.group(cls=Group)
def data() -> None:
    """Check, convert and draw data sets of the UniEdit layout."""


@data.command(cls=Command)
@click.argument("dataset", metavar="DIR")
@click.option("--sheet", type=_FILE, help="Draw a few samples of each category to this picture.")
@click.option("--json", "report_file", type=_FILE, help="Write all that was found to this file.")
@click.option("--strict", is_flag=True, help="Fail on warnings, too.")
@click.option(
    "--min-side",
    type=click.IntRange(min=1),
    default=LEAST_SIDE,
    show_default=True,
    help="Pictures whose shorter side is under this many pixels are small.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=lambda: os.cpu_count() or 1,
    help="Threads that decode pictures (as a rule, one a core).",
)
def check(
    dataset: str,
    sheet: Path | None,
    report_file: Path | None,
    strict: bool,
    min_side: int,
    workers: int,
) -> None:
    """Look at every file of every sample of DIR: a folder, a shard, or 'data-{0000..0003}.tar'.

    Exit code 0 where nothing is wrong, 2 where there are errors.
    """
    if sheet is not None:
        check_output(sheet, "--sheet")
    if report_file is not None and not report_file.absolute().parent.is_dir():
        raise DataError(
            f"--json {str(report_file)!r}: the folder {str(report_file.parent)!r} does not exist: "
            "create it first, or write elsewhere"
        )
    with _progress("checking") as step:
        report = validate(dataset, least=min_side, workers=workers, progress=step)
    print_report(report, Console())
    if report_file is not None:
        text = json.dumps(report.to_json(), indent=1, ensure_ascii=False)
        with atomic_path(report_file) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    if sheet is not None and report.picks:
        save_picture(dataset_sheet(report.picks), sheet)
        click.echo(f"sheet: {sheet}")
    if report.errors or (strict and report.warnings):
        raise DataError(
            f"{dataset!r} has {_many(report.errors, 'error')} and "
            f"{_many(report.warnings, 'warning')} in {_many(report.samples, 'sample')}"
        )


@data.command(cls=Command)
@click.argument("dataset", metavar="DIR")
@click.option("--again", is_flag=True, help="Make it even if there is one that still holds.")
def index(dataset: str, again: bool) -> None:
    """Make the index that training reads DIR by, so that the first run need not.

    Says how many samples there are, and how long it took.
    """
    wall, own = time.monotonic(), time.process_time()
    with _progress("indexing") as step:
        made = open_index(dataset, step, again=again)
    wall, own = time.monotonic() - wall, time.process_time() - own
    splits = ", ".join(f"{made.count(split)} {split}" for split in SPLITS)
    click.echo(f"{splits} in {wall:.2f} s ({own:.2f} s of processor time): {made.path}")


@data.command("import-insert-anything", cls=Command)
@click.argument("source", type=_FOLDER)
@click.argument("out", type=_FOLDER)
@click.option(
    "--category",
    "categories",
    multiple=True,
    metavar="NAME=CATEGORY",
    help="Category of a label or of a folder, or 'skip'; repeatable.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "test"]),
    help="Of all samples; without it, the folders train and test say, and others are train.",
)
@click.option("--licence", default="", help="Of the pictures, to be kept with each sample.")
@_SHARDS
@_PER_SHARD
def import_insert_anything(
    source: Path,
    out: Path,
    categories: tuple[str, ...],
    split: str | None,
    licence: str,
    shards: bool,
    per_shard: int,
) -> None:
    """Turn folders laid out as Insert-Anything's data into UniEdit samples in OUT."""
    pairs = find_pairs(source, _given(categories), split=split)
    with _progress("importing", len(pairs)) as step:
        written = write_samples(
            out, convert(pairs, licence), per_shard=per_shard if shards else None, progress=step
        )
    click.echo(f"{written} samples: {out}")


@data.command(cls=Command)
@click.argument("out", type=_FOLDER)
@click.option("--count", type=click.IntRange(min=1), required=True, help="Samples to draw.")
@click.option(
    "--split",
    type=click.Choice(["train", "held_out"]),
    default="train",
    show_default=True,
    help="Kinds of objects that training sees, or those that it never does (split test in OUT).",
)
@click.option(
    "--size", type=click.IntRange(min=32), default=256, show_default=True, help="Side in pixels."
)
@click.option(
    "--first", type=click.IntRange(min=0), default=0, show_default=True, help="First index."
)
@click.option(
    "--photos",
    type=_FOLDER,
    help="A folder of your own pictures: photographs become places, cut-outs objects.",
)
@click.option("--licence", help=f"To be kept with each sample; without --photos it is {LICENCE}.")
@_SHARDS
@_PER_SHARD
def draw(
    out: Path,
    count: int,
    split: Split,
    size: int,
    first: int,
    photos: Path | None,
    licence: str | None,
    shards: bool,
    per_shard: int,
) -> None:
    """Draw COUNT samples of the built-in scenes into OUT, categories in turn."""
    if licence is None:
        licence = LICENCE if photos is None else ""
    source = DrawnScenes(photos)
    samples = export_source(source, count, size, split, first=first, licence=licence)
    with _progress("drawing", count) as step:
        written = write_samples(
            out, samples, per_shard=per_shard if shards else None, progress=step
        )
    click.echo(f"{written} samples: {out}")


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _given(categories: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in categories:
        name, equals, category = text.rpartition("=")
        if not equals or not name:
            raise click.BadParameter(
                f"{text!r} is no NAME=CATEGORY, such as book=furniture", param_hint="--category"
            )
        pairs[name.strip()] = category.strip().lower()
    return pairs


@contextmanager
def _progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    columns = (
        SpinnerColumn(),
        TextColumn(what),
        *((BarColumn(), MofNCompleteColumn()) if total else (TextColumn("{task.completed}"),)),
        TimeElapsedColumn(),
        *((TimeRemainingColumn(),) if total else ()),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)

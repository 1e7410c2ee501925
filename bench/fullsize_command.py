"""`a2edit-bench fullsize`: what building a full-size model takes."""

import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from a2edit.bench.fullsize import CASES, DEFAULT, measure_case
from a2edit.bench.options import results_option
from a2edit.bench.rows import Setup, append_rows
from a2edit.runtime.commands import Command


@click.command(cls=Command)
@results_option("fullsize.csv")
@click.option(
    "--model", default="flux-fill", show_default=True, help="Or a checkpoint: its config files."
)
@click.option(
    "--only",
    metavar="CASE,…",
    default=",".join(DEFAULT),
    help=f"Of {', '.join(CASES)}.  [{DEFAULT[0]} to {DEFAULT[-1]}]",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="For files of up to 40 GB, removed after each case.  [the system's temporary folder]",
)
def fullsize(results: Path, model: str, only: str, work: Path | None) -> None:
    """Plans and routes of a full-size model with random weights: seconds, memory, sizes.

    Every case is a process of its own, and none needs a GPU. Rows are appended case by case.
    """
    cases = [name.strip() for name in only.split(",")]
    if unknown := [name for name in cases if name not in CASES]:
        raise click.UsageError(f"--only {unknown[0]}: allowed are {', '.join(CASES)}")
    console = Console()
    setup = Setup.here("fullsize", model, 0)
    table = Table(box=None, header_style="bold")
    for head in ("case", "figure", "value", "unit"):
        table.add_column(head, justify="right" if head == "value" else "left")
    with console.status("starting") as status:
        for case in cases:
            status.update(case)
            figures = measure_case(case, model, work or Path(tempfile.gettempdir()))
            rows = [setup.row(f"{case}, {it.what}", it.unit, [it.value]) for it in figures]
            append_rows(results / "fullsize.csv", rows)
            for it in figures:
                table.add_row(case, it.what, f"{it.value:,.1f}", it.unit)
    console.print(table)
    console.print(f"appended to {results / 'fullsize.csv'}")

"""Edit held-out cases with a bundle, and write a contact sheet and a page to look at.

    python examples/demo.py --bundle build/a2edit-mini --out out

`make demo` builds the bundle first. All of the work is in two lines: `Editor.open` and
`editor.edit`; the rest draws the cases and reports.
"""

import sys
import time
from pathlib import Path

import click
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from a2edit import A2EditError, Editor
from a2edit.bench.figures import Edited, Figures, edit_cases, figures
from a2edit.bench.heldout.cases import demo_cases
from a2edit.bench.page import demo_page
from a2edit.runtime.sheet import contact_sheet, sheet_row

COLUMNS = 2


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), default=Path("build/a2edit-mini"))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("out"))
def main(bundle: Path, out: Path) -> None:
    """Edit twelve held-out cases; write OUT/demo.png and OUT/demo.html."""
    console = Console()
    try:
        edited, model = _edit_all(bundle, console)
    except A2EditError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    found = figures(edited)
    out.mkdir(parents=True, exist_ok=True)
    _sheet(edited).save(out / "demo.png", optimize=True)
    (out / "demo.html").write_text(demo_page(edited, found, model), encoding="utf-8")
    _report(console, found, out)


def _edit_all(bundle: Path, console: Console) -> tuple[list[Edited], str]:
    columns = (
        TextColumn("[bold]editing[/] {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Editor.open(bundle) as editor, Progress(*columns, console=console) as progress:
        editor.open_engines()
        cases = demo_cases()
        task = progress.add_task("", total=len(cases))
        edited = edit_cases(
            editor,
            cases,
            time.perf_counter,
            lambda one: progress.update(task, advance=1, description=one.case.name),
        )
        return edited, editor.bundle.manifest.name


def _sheet(edited: list[Edited]) -> Image.Image:
    """Contact sheets of the runtime's, side by side."""
    rows = [sheet_row(one.case.request(), one.result) for one in edited]
    height = -(-len(rows) // COLUMNS)
    parts = [contact_sheet(rows[i * height : (i + 1) * height]) for i in range(COLUMNS)]
    size = (sum(part.width for part in parts), max(part.height for part in parts))
    sheet = Image.new("RGB", size, (255, 255, 255))
    left = 0
    for part in parts:
        sheet.paste(part, (left, 0))
        left += part.width
    return sheet


def _report(console: Console, found: Figures, out: Path) -> None:
    console.print(
        f"own reference closer in colour: {found.own_closer:.1%} of {found.comparisons} comparisons"
    )
    console.print(f"unchanged outside the mask, worst case: {found.identical_outside:.2%}")
    console.print(f"an edit, median: {found.seconds:.2f} s")
    console.print(f"look at [bold]{out / 'demo.html'}[/] and [bold]{out / 'demo.png'}[/]")


if __name__ == "__main__":
    main()

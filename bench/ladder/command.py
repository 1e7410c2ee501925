"""`a2edit-bench ladder`: what each change gains, from the papers' set-up on."""

from pathlib import Path

import click
from rich.console import Console

from a2edit.bench.options import results_option
from a2edit.bench.rows import Setup, append_rows, table_of
from a2edit.runtime.commands import Command


@click.command(cls=Command)
@click.option("--model", default="a2edit-mini", show_default=True, help="A checkpoint or its name.")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/ladder"),
    show_default=True,
    help="Where a bundle a precision is built; a second run finds them.",
)
@click.option("--rounds", type=click.IntRange(min=3), default=7, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=16, show_default=True,
              help="Of every edit.")  # fmt: skip
@click.option("--samples", type=click.IntRange(min=1), default=16, show_default=True,
              help="Calibration requests of the bundles.")  # fmt: skip
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("out/ladder.png"),
    show_default=True,
    help="The ladder as a picture.",
)
@results_option("ladder.csv")
def ladder(
    model: str, work: Path, rounds: int, steps: int, samples: int, plot: Path, results: Path
) -> None:
    """The same edits by torch as the papers run it, merged, and by engines down to 8 bits."""
    from a2edit.bench.reference import quiet

    quiet()
    from a2edit.bench.ladder.engines import Plan, climb
    from a2edit.bench.ladder.plot import draw

    console = Console()
    setup = Setup.here("ladder", model, steps)
    plan = Plan(model=model, work=work, rounds=rounds, steps=steps, samples=samples)
    with console.status("starting") as status:
        found = climb(plan, status.update)
    rows = found.rows(setup)
    append_rows(results / "ladder.csv", rows)
    draw(found, f"{model}, {steps} steps, on {setup.device}", plot)
    console.print(table_of(rows))
    console.print(f"appended to {results / 'ladder.csv'}; drawn in {plot}")

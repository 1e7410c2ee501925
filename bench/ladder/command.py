"""`a2edit-bench ladder`: what each change gains, from the papers' set-up on."""

from pathlib import Path

import click
from rich.console import Console

from a2edit.bench.options import plot_option, results_option
from a2edit.bench.rows import Setup, append_rows, table_of
from a2edit.runtime.commands import Command


@click.command(cls=Command)
@click.option(
    "--model",
    default=None,
    help="A checkpoint or its name; by its shapes alone with --device.  "
    "[a2edit-mini; with --device cuda: flux-fill]",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    help="Climb the denoiser in torch there, random weights in bf16. Default: the engines' ladder, "
    "whole edits on this processor.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/ladder"),
    show_default=True,
    help="Where the engines' ladder builds a bundle a precision; a second run finds them.",
)
@click.option("--rounds", type=click.IntRange(min=3), default=7, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Default: the model's.")
@click.option("--samples", type=click.IntRange(min=1), default=16, show_default=True,
              help="Calibration requests of the bundles.")  # fmt: skip
@plot_option("out/ladder.png", "The ladder as a picture.")
@results_option("ladder.csv")
def ladder(
    model: str | None,
    device: str | None,
    work: Path,
    rounds: int,
    steps: int | None,
    samples: int,
    plot: Path,
    results: Path,
) -> None:
    """From torch as the papers run it to what is run here, one change a rung."""
    from a2edit.bench.reference import quiet

    quiet()
    from a2edit.bench.ladder import device as torch_ladder
    from a2edit.bench.ladder import engines
    from a2edit.bench.ladder.plot import draw
    from a2edit.model.weightless import shapes_of

    console = Console()
    model = model or ("flux-fill" if device == "cuda" else "a2edit-mini")
    steps = steps or shapes_of(model).mot.steps
    setup = Setup.here("ladder", model, steps)
    with console.status("starting") as status:
        if device:
            setup = torch_ladder.setup_on(setup, device)
            climbed = torch_ladder.climb(
                torch_ladder.Plan(model, device, rounds, steps), status.update
            )
            found, rows = climbed.ladder, climbed.rows(setup)
            told = torch_ladder.beside_published(climbed)
        else:
            plan = engines.Plan(model=model, work=work, rounds=rounds, steps=steps, samples=samples)
            found = engines.climb(plan, status.update)
            rows, told = found.rows(setup), ""
    append_rows(results / "ladder.csv", rows)
    draw(found, f"{model}, {steps} steps, on {setup.device}", plot)
    console.print(table_of(rows))
    if told:
        console.print(told)
    console.print(f"appended to {results / 'ladder.csv'}; drawn in {plot}")

"""`a2edit-bench flow`: what a stage of training, or the lack of one, did to the loss."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from a2edit.bench.options import data_option, half_option, results_option, split_option
from a2edit.bench.rows import Setup, append_rows
from a2edit.runtime.commands import Command
from a2edit.runtime.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from a2edit.training.scenes import Split


@click.command(cls=Command)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--samples",
    type=click.IntRange(min=16),
    default=96,
    show_default=True,
    help="Of every kind of mask, the categories in turn.",
)
@split_option
@data_option
@click.option("--whole", is_flag=True, help="All tokens, not the windows that mini learns on.")
@half_option
@results_option("flow.csv")
def flow(
    models: tuple[str, ...],
    samples: int,
    split: "Split",
    data: Path | None,
    whole: bool,
    half: bool,
    results: Path,
) -> None:
    """Flow-matching loss by kind of mask; every MODEL against the first, on the same noise.

    MODEL is a checkpoint's folder or name, or LABEL=FOLDER to call it something shorter.
    """
    from a2edit.bench.reference import quiet

    quiet()
    from a2edit.bench.flow import BATCH, MASKS, FlowPlan, flow_losses
    from a2edit.model.checkpoint import Checkpoint
    from a2edit.training.datasets.unieditsource import UniEditSource
    from a2edit.training.stages import WINDOWS

    console = Console()
    sides = () if whole else WINDOWS
    plan = FlowPlan(samples, split, sides, half)
    source = UniEditSource(data) if data else None
    named = _labelled(models)
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    rows = []
    with Progress(console=console) as bar:
        for label, model in named.items():
            task = bar.add_task(label, total=-(-samples // BATCH) * len(MASKS))
            checkpoint = Checkpoint.load(model)
            found[label] = flow_losses(checkpoint, plan, source, partial(bar.advance, task))
            setup = Setup.here(f"flow, {split} kinds", label, checkpoint.config.steps)
            rows += [setup.row(mask, "loss", v.tolist()) for mask, v in found[label].items()]
    append_rows(results / "flow.csv", rows)
    console.print(_table(found))
    console.print(f"rows appended to {results / 'flow.csv'}")


def _labelled(models: tuple[str, ...]) -> dict[str, str]:
    named = dict(_split(model) for model in models)
    if len(named) < len(models):
        raise RequestError(
            f"models {', '.join(models)}: two have the same label; write LABEL=FOLDER"
        )
    return named


def _split(model: str) -> tuple[str, str]:
    label, equals, folder = model.partition("=")
    # A folder's own name may hold an equals sign.
    return (label, folder) if equals and not Path(model).is_dir() else (model, model)


def _table(found: "dict[str, dict[str, NDArray[np.float64]]]") -> Table:
    """The first model's losses, the others' changes in percent with their standard errors."""
    from a2edit.bench.flow import change

    first, *others = found
    table = Table(title="loss, and its change in % (standard error)", box=None)
    table.add_column("model")
    for mask in found[first]:
        table.add_column(mask, justify="right")
    table.add_row(first, *(f"{values.mean():.4f}" for values in found[first].values()))
    for model in others:
        changes = (change(found[model][mask], found[first][mask]) for mask in found[first])
        table.add_row(model, *(f"{100 * c.mean:+.2f} ({100 * c.error:.2f})" for c in changes))
    return table

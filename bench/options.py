"""Options that several benches share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

RESULTS = Path("bench/results")

bundle_option = click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    default=Path("build/a2edit-mini"),
    show_default=True,
    help="The bundle to measure.",
)
split_option = click.option(
    "--split",
    type=click.Choice(["train", "held_out"]),
    default="train",
    show_default=True,
    help="New samples of kinds trained on, or of kinds held out.",
)
data_option = click.option(
    "--data", type=click.Path(path_type=Path), help="A UniEdit data set; default: the drawn scenes."
)
half_option = click.option(
    "--half", is_flag=True, help="The transformer in bf16: faster where the processor has it."
)


def results_option(file: str) -> Callable[..., Any]:
    """--results, the folder of a CSV file."""
    return click.option(
        "--results",
        type=click.Path(path_type=Path, file_okay=False),
        default=RESULTS,
        show_default=True,
        help=f"Folder whose {file} the rows are appended to.",
    )


def plot_option(default: str, what: str) -> Callable[..., Any]:
    """--plot, a picture's file; `what` says what it shows."""
    return click.option(
        "--plot",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path(default),
        show_default=True,
        help=what,
    )

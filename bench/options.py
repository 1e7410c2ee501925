"""Options that several benches share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

RESULTS = Path("bench/results")

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

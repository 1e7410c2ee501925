"""Options that the training commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from a2edit.training.gate_start import GateStart
from a2edit.training.recipe import Recipe

photos_option = click.option(
    "--photos",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A folder of pictures that become places, textures and objects of the drawn scenes.",
)

_COUNT, POSITIVE = click.IntRange(min=0), click.IntRange(min=1)
_RUN_OPTIONS = (
    click.option("--restart", is_flag=True, help="Discard what is in the folder."),
    click.option("--seed", default=0, show_default=True, help="Of weights, samples and noise."),
    click.option(
        "--steps",
        "overrides",
        multiple=True,
        metavar="STAGE=N",
        help="Another number of steps for a stage; repeatable.",
    ),
    click.option(
        "--accumulate",
        type=POSITIVE,
        default=1,
        show_default=True,
        help="Pieces that a process's share of a batch is cut into.",
    ),
    click.option(
        "--checkpointing",
        is_flag=True,
        help="Recompute blocks in the backward pass: less memory, a third more time.",
    ),
    click.option(
        "--ema",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.998,
        show_default=True,
        help="Decay of the averaged weights, which are kept; 0: none.",
    ),
    click.option(
        "--gate-start",
        type=click.Choice(get_args(GateStart)),
        help="What a new gate tells requests apart by at first: nothing, chance, or category.",
    ),
    click.option(
        "--sheet-every",
        type=POSITIVE,
        default=500,
        show_default=True,
        help="Steps between contact sheets, plots and checkpoints.",
    ),
    click.option(
        "--sheets/--no-sheets",
        default=True,
        show_default=True,
        help="Whether to draw contact sheets of held-out samples.",
    ),
    click.option(
        "--save-every",
        type=POSITIVE,
        default=100,
        show_default=True,
        help="Steps between saved states.",
    ),
    click.option(
        "--log-every",
        type=POSITIVE,
        default=1,
        show_default=True,
        help="Steps between rows of metrics.csv.",
    ),
    click.option(
        "--workers",
        type=_COUNT,
        default=1,
        show_default=True,
        help="Processes that draw samples, for every training process.",
    ),
    click.option(
        "--threads",
        type=_COUNT,
        default=0,
        help="Threads of the processor to compute with (0: all).",
    ),
)


def precision_option(default: str) -> Callable[..., Any]:
    """--precision."""
    return click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        default=default,
        show_default=True,
        help="Of the transformer's forward and backward; what is trained stays fp32.",
    )


def recipe_option(default: str) -> Callable[..., Any]:
    """--recipe, as `recipe_name`."""
    return click.option(
        "--recipe",
        "recipe_name",
        default=default,
        show_default=True,
        metavar="NAME|FILE.toml",
        help="What is learnt; `a2edit-train recipe NAME` prints a built-in one.",
    )


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those of `LoopSettings` by their names there, and --restart, --threads, and recipe's."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command


def with_changes(
    recipe: Recipe, overrides: tuple[str, ...], gate_start: GateStart | None
) -> Recipe:
    """The recipe as --steps and --gate-start change it."""
    stages = recipe.stages
    names = [stage.name for stage in stages]
    for override in overrides:
        name, _, count = override.partition("=")
        if name not in names or not count.isdecimal():
            raise click.BadParameter(
                f"{override!r} is no STAGE=N; the stages are {', '.join(names)}",
                param_hint="--steps",
            )
        stages = tuple(
            replace(stage, steps=int(count)) if stage.name == name else stage for stage in stages
        )
    return replace(recipe, stages=stages, gate_start=gate_start or recipe.gate_start)

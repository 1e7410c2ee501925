"""`a2edit-train`: train the embedded model, with progress, contact sheets and resumption."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
import torch
from accelerate import PartialState

from a2edit.model.architectures import MINI, new_checkpoint
from a2edit.model.checkpoint import Checkpoint, find_checkpoint
from a2edit.runtime.commands import Command, Group
from a2edit.runtime.errors import RequestError
from a2edit.training.datasets.cli import data
from a2edit.training.gate_start import GateStart
from a2edit.training.loop import Trainer
from a2edit.training.progress import run_with_progress
from a2edit.training.recipe import RECIPES, Recipe, find_recipe, toml_of
from a2edit.training.settings import LoopSettings, Start
from a2edit.training.takeover import take_over


@click.group(cls=Group)
@click.version_option(package_name="a2edit")
def main() -> None:
    """Train A²-Edit models."""


main.add_command(data)


_COUNT, _POSITIVE = click.IntRange(min=0), click.IntRange(min=1)
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
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        default="fp32",
        show_default=True,
        help="Of the transformer's forward and backward; weights and optimiser stay fp32.",
    ),
    click.option(
        "--accumulate",
        type=_POSITIVE,
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
        type=_POSITIVE,
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
        type=_POSITIVE,
        default=100,
        show_default=True,
        help="Steps between saved states.",
    ),
    click.option(
        "--log-every",
        type=_POSITIVE,
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


def _recipe_option(default: str) -> Callable[..., Any]:
    return click.option(
        "--recipe",
        "recipe_name",
        default=default,
        show_default=True,
        metavar="NAME|FILE.toml",
        help="What is learnt; `a2edit-train recipe NAME` prints a built-in one.",
    )


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command


@main.command(cls=Command)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("build/train/a2edit-mini"),
    show_default=True,
    help="Folder of the run; a run that is there is taken up.",
)
@click.option(
    "--from",
    "source",
    metavar="CHECKPOINT",
    help="Take over what fits of a checkpoint (a folder, or an embedded model's name).",
)
@_recipe_option("mini")
@click.option("--keep-experts", is_flag=True, help="Take over its experts and gate, too.")
@_run_options
def mini(
    out: Path,
    source: str | None,
    keep_experts: bool,
    restart: bool,
    recipe_name: str,
    overrides: tuple[str, ...],
    gate_start: GateStart | None,
    threads: int,
    **options: Any,
) -> None:
    """Train a2edit-mini: autoencoder, base, then experts and gate in three stages."""
    recipe = _with_changes(find_recipe(recipe_name), overrides, gate_start)
    if keep_experts and source is None:
        raise click.UsageError("--keep-experts is of use with --from only")
    _prepare(out, restart=restart, threads=threads, source=source)
    with PartialState().main_process_first():
        checkpoint = new_checkpoint(MINI, out / "tokenizers", options["seed"])
    start = Start()
    if source is not None:
        takeover = take_over(checkpoint, Checkpoint.load(source), keep_experts=keep_experts)
        start = Start(fresh=frozenset(takeover.fresh), origin=takeover.origin)
        _say(f"{source}: {takeover}")
    _train(Trainer(checkpoint, recipe, LoopSettings(out, **options), start))


@main.command(cls=Command)
@click.argument("name", type=click.Choice(list(RECIPES)))
def recipe(name: str) -> None:
    """Print a built-in recipe as TOML, to start a file for --recipe from."""
    click.echo(toml_of(RECIPES[name]), nl=False)


def _prepare(out: Path, *, restart: bool, threads: int, source: str | None) -> None:
    if threads:
        torch.set_num_threads(threads)
    if restart and source and find_checkpoint(source).resolve().is_relative_to(out.resolve()):
        raise RequestError(
            f"--restart would delete {source}, which the run is to start from: give another --out"
        )
    state = PartialState()
    with state.main_process_first():
        if restart and state.is_main_process:
            _discard(out)


def _train(trainer: Trainer) -> None:
    if trainer.resume():
        _say(f"taking up {trainer.settings.folder}: {trainer.done}")
    run_with_progress(trainer)


def _say(line: str) -> None:
    if PartialState().is_main_process:
        click.echo(line)


def _discard(folder: Path) -> None:
    """Delete a run; a folder that holds anything else is not ours to delete."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / "metrics.csv").is_file() and not (folder / "state.pt").is_file():
        raise RequestError(
            f"--restart would delete {folder}, which holds no training run "
            "(no state.pt, no metrics.csv): give another --out, or empty the folder yourself"
        )
    shutil.rmtree(folder)


def _with_changes(
    recipe: Recipe, overrides: tuple[str, ...], gate_start: GateStart | None
) -> Recipe:
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


if __name__ == "__main__":
    main()

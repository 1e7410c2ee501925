"""`a2edit-train`: train the embedded model, with progress, contact sheets and resumption."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import click
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from a2edit.model.architectures import MINI, new_checkpoint
from a2edit.runtime.commands import Command, Group
from a2edit.runtime.errors import RequestError
from a2edit.training.datasets.cli import data
from a2edit.training.loop import LoopSettings, Trainer, stages_left
from a2edit.training.stages import MINI_STAGES, Stage


@click.group(cls=Group)
@click.version_option(package_name="a2edit")
def main() -> None:
    """Train A²-Edit models."""


main.add_command(data)


@main.command(cls=Command)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("build/train/a2edit-mini"),
    show_default=True,
    help="Folder of the run; a run that is there is taken up.",
)
@click.option("--restart", is_flag=True, help="Discard what is in the folder.")
@click.option("--seed", default=0, show_default=True, help="Of weights, samples and noise.")
@click.option(
    "--steps",
    "overrides",
    multiple=True,
    metavar="STAGE=N",
    help="Another number of steps for a stage; repeatable.",
)
@click.option(
    "--sheet-every",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Steps between contact sheets.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Processes that draw samples.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Threads of the processor to compute with (0: all).",
)
def mini(
    out: Path,
    restart: bool,
    seed: int,
    overrides: tuple[str, ...],
    sheet_every: int,
    workers: int,
    threads: int,
) -> None:
    """Train a2edit-mini from nothing: autoencoder, base, then experts and gate in three stages."""
    stages = _with_overrides(MINI_STAGES, overrides)
    if restart:
        _discard(out)
    if threads:
        torch.set_num_threads(threads)
    checkpoint = new_checkpoint(MINI, out / "tokenizers", seed)
    settings = LoopSettings(out, seed=seed, sheet_every=sheet_every, workers=workers)
    trainer = Trainer(checkpoint, stages, settings)
    if trainer.resume():
        click.echo(f"taking up {out}: {trainer.done}")
    _run(trainer)


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


def _with_overrides(stages: tuple[Stage, ...], overrides: tuple[str, ...]) -> tuple[Stage, ...]:
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
    return stages


def _run(trainer: Trainer) -> None:
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        tasks = {
            stage.name: progress.add_task(
                stage.name, total=stage.steps, completed=stage.steps - left, start=False, loss="-"
            )
            for stage, left in stages_left(trainer.stages, trainer.done)
        }

        def show(stage: Stage, step: int, loss: float) -> None:
            task = tasks[stage.name]
            progress.start_task(task)
            progress.update(task, completed=step, loss=f"{loss:.4f}")

        folder = trainer.run(show)
    click.echo(f"checkpoint: {folder}")


if __name__ == "__main__":
    main()

"""What a run shows on the terminal while it goes on."""

from __future__ import annotations

import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from a2edit.training.loop import Trainer
from a2edit.training.stages import Stage, stages_left
from a2edit.training.stop import Stopped

_COLUMNS = (
    TextColumn("{task.description:<12}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("loss {task.fields[loss]}"),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
)


def run_with_progress(trainer: Trainer) -> None:
    """Run with one bar a stage; a stop by a signal ends the command with 128 + its number."""
    main = trainer.accelerator.is_main_process
    try:
        with Bars(*_COLUMNS, disable=not main) as bars:
            tasks = {
                stage.name: bars.add_task(
                    stage.name,
                    total=stage.steps,
                    completed=stage.steps - left,
                    start=False,
                    loss="-",
                )
                for stage, left in stages_left(trainer.recipe.stages, trainer.done)
            }

            def show(stage: Stage, step: int, loss: float) -> None:
                task = tasks[stage.name]
                bars.start_task(task)
                bars.update(task, completed=step, loss=f"{loss:.4f}")

            folder = trainer.run(show)
    except Stopped as stop:
        if main:
            click.echo(f"{stop}; the same command goes on", err=True)
        raise click.exceptions.Exit(stop.exit_code) from None
    finally:
        trainer.accelerator.end_training()
    if main:
        click.echo(f"checkpoint: {folder}")

"""`a2edit-train`: train the embedded model, with progress, contact sheets and resumption."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from accelerate import PartialState

from a2edit.model.architectures import MINI, new_checkpoint
from a2edit.model.checkpoint import Checkpoint, find_checkpoint
from a2edit.runtime.commands import Command, Group
from a2edit.runtime.errors import RequestError
from a2edit.training.data import PairFactory
from a2edit.training.datasets import DrawnScenes, UniEditSource
from a2edit.training.datasets.cli import data
from a2edit.training.datasets.source import SampleSource
from a2edit.training.gate_start import GateStart
from a2edit.training.loop import Trainer
from a2edit.training.options import (
    POSITIVE,
    photos_option,
    precision_option,
    recipe_option,
    run_options,
    with_changes,
)
from a2edit.training.plan import plan
from a2edit.training.progress import run_with_progress
from a2edit.training.recipe import RECIPES, find_recipe, toml_of
from a2edit.training.settings import LoopSettings, Start
from a2edit.training.startfolder import Wanted, start_folder
from a2edit.training.takeover import take_over


@click.group(cls=Group)
@click.version_option(package_name="a2edit")
def main() -> None:
    """Train A²-Edit models."""


main.add_command(data)
main.add_command(plan)


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
@recipe_option("mini")
@precision_option("fp32")
@photos_option
@click.option("--keep-experts", is_flag=True, help="Take over its experts and gate, too.")
@run_options
def mini(
    out: Path,
    source: str | None,
    photos: Path | None,
    keep_experts: bool,
    restart: bool,
    recipe_name: str,
    overrides: tuple[str, ...],
    gate_start: GateStart | None,
    threads: int,
    **options: Any,
) -> None:
    """Train a2edit-mini: autoencoder, base, then experts and gate in three stages."""
    recipe = with_changes(find_recipe(recipe_name), overrides, gate_start)
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
    factory = PairFactory(checkpoint, DrawnScenes(photos))
    _train(Trainer(checkpoint, recipe, LoopSettings(out, **options), start, factory))


@main.command(cls=Command)
@click.option(
    "--model",
    required=True,
    metavar="CHECKPOINT|FOLDER",
    help="A checkpoint, with or without experts, or a diffusers FLUX.1-Fill folder.",
)
@click.option(
    "--redux",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A diffusers Redux folder, for a model that holds none.",
)
@click.option(
    "--data",
    "dataset",
    required=True,
    metavar="DIR|drawn",
    help="A UniEdit data set (see `a2edit-train data`), or the drawn scenes.",
)
@photos_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the run; a run that is there is taken up.",
)
@click.option("--new-experts", is_flag=True, help="Leave the model's own experts and gate aside.")
@click.option("--size", type=click.IntRange(min=32), help="Working side in pixels [1024].")
@click.option("--layout", type=click.Choice(["redux", "diptych"]), help="[redux]")
@click.option("--experts", "num_experts", type=POSITIVE, help="How many new ones a block [8].")
@click.option("--rank", type=POSITIVE, help="Of new experts [32].")
@click.option("--text-length", type=POSITIVE, help="Tokens given to T5 [512].")
@recipe_option("paper")
@precision_option("bf16")
@run_options
def experts(
    model: str,
    redux: Path | None,
    dataset: str,
    photos: Path | None,
    out: Path,
    new_experts: bool,
    size: int | None,
    layout: str | None,
    num_experts: int | None,
    rank: int | None,
    text_length: int | None,
    restart: bool,
    recipe_name: str,
    overrides: tuple[str, ...],
    gate_start: GateStart | None,
    threads: int,
    **options: Any,
) -> None:
    """Train experts and gate on the frozen base of a checkpoint, as the paper does."""
    recipe = with_changes(find_recipe(recipe_name), overrides, gate_start)
    if others := [stage.name for stage in recipe.stages if stage.trains != "experts"]:
        raise RequestError(
            f"recipe {recipe.name}: {', '.join(others)} would change the base, which stays frozen "
            "here: leave them out, or train with `a2edit-train mini`"
        )
    drawn = dataset == "drawn"
    if photos and not drawn:
        raise click.UsageError("--photos is of use with --data drawn only")
    source: SampleSource = DrawnScenes(photos) if drawn else UniEditSource(dataset)
    _prepare(out, restart=restart, threads=threads, source=model)
    with PartialState().main_process_first():
        folder, new = start_folder(
            model,
            out / "start",
            redux=redux,
            wanted=Wanted(size, layout, text_length, num_experts, rank),
            new_experts=new_experts,
            seed=options["seed"],
        )
    frozen = torch.bfloat16 if options["precision"] == "bf16" else torch.float32
    checkpoint = Checkpoint.load(folder, frozen)
    start = Start(
        fresh=frozenset({"experts", "gate"} if new else ()),
        origin=checkpoint.config.base_hash,
        write=partial(Checkpoint.save, parts_from=folder),
    )
    factory = PairFactory(checkpoint, source)
    _train(Trainer(checkpoint, recipe, LoopSettings(out, **options), start, factory))


@main.command(cls=Command)
@click.argument("name", type=click.Choice(list(RECIPES)))
def recipe(name: str) -> None:
    """Print a built-in recipe as TOML, to start a file for --recipe from."""
    click.echo(toml_of(RECIPES[name]), nl=False)


def _prepare(out: Path, *, restart: bool, threads: int, source: str | None) -> None:
    if threads:
        torch.set_num_threads(threads)
    if restart and source and _lies_in(source, out):
        raise RequestError(
            f"--restart would delete {source}, which the run is to start from: give another --out"
        )
    state = PartialState()
    with state.main_process_first():
        if restart and state.is_main_process:
            _discard(out)


def _lies_in(source: str, folder: Path) -> bool:
    path = Path(source) if Path(source).is_dir() else find_checkpoint(source)
    return path.resolve().is_relative_to(folder.resolve())


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


if __name__ == "__main__":
    main()

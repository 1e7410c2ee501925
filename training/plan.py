"""`a2edit-train plan`: what a run takes, before any of it is bought."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import click
import torch
from rich.console import Console
from rich.table import Table

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.weightless import Shapes, fake_checkpoint, shapes_of, without_memory
from a2edit.runtime.commands import Command
from a2edit.runtime.errors import RequestError
from a2edit.training.options import POSITIVE
from a2edit.training.plan_memory import Footprint, footprint, tokens_of
from a2edit.training.recipe import find_recipe
from a2edit.training.stages import Stage

_GIB = 2**30
_UNITS = {"MiB": 2**20, "GiB": 2**30, "MB": 10**6, "GB": 10**9}
# Of what is counted, for the allocator's gaps and the libraries' workspaces; and CUDA's own.
_SLACK, _CONTEXT = 1.10, 1 * _GIB

_NAMES = {
    "transformer": "base transformer",
    "text_encoder": "text encoder (T5)",
    "pooled_encoder": "pooled encoder (CLIP)",
    "image_encoder": "image encoder (SigLIP)",
    "redux": "Redux projector",
    "vae": "autoencoder",
    "gate": "gate",
    "experts": "experts",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run a stage on one of several devices.

    Attributes:
        stages: names of stages that take the same memory.
        precision: of the transformer.
        recompute: gradient checkpointing.
        samples, pieces: of a device: samples a piece, pieces a step.
        footprint: of one piece.
        devices: that share a batch.
    """

    stages: tuple[str, ...]
    precision: Literal["fp32", "bf16"]
    recompute: bool
    samples: int
    pieces: int
    footprint: Footprint
    devices: int

    @property
    def activations(self) -> int:
        """What a step takes beyond gradients."""
        return self.total - self.footprint.frozen - 5 * self.footprint.learning

    @property
    def total(self) -> int:
        """Bytes on one device, as counted."""
        # Later pieces find the gradients of the first, and processes have them in their buckets.
        kept = self.pieces > 1 or self.devices > 1
        counted = self.footprint.total(recompute=self.recompute, kept_gradients=kept, average=True)
        return max(counted, self.footprint.frozen + 5 * self.footprint.learning)

    @property
    def needs(self) -> int:
        """Bytes of a device that this fits on."""
        return round(self.total * _SLACK) + _CONTEXT

    @property
    def options(self) -> str:
        """Of the command line."""
        recompute = " --checkpointing" if self.recompute else ""
        pieces = f" --accumulate {self.pieces}" if self.pieces > 1 else ""
        return f"--precision {self.precision}{recompute}{pieces}"


def settings_of(shapes: Shapes, stages: tuple[Stage, ...], devices: int) -> Iterator[Setting]:
    """Every way to run each kind of stage, the fastest first.

    Raises:
        RequestError: a batch cannot be shared by the devices.
    """
    kinds: dict[Stage, list[str]] = {}
    for stage in stages:
        # Masks, rates and penalties weigh nothing.
        alike = next((kind for kind in kinds if _shape(kind) == _shape(stage)), stage)
        kinds.setdefault(alike, []).append(stage.name)
    for stage, names in kinds.items():
        if stage.batch % devices:
            raise RequestError(
                f"stage {stage.name}: {devices} devices cannot share a batch of {stage.batch}: "
                "give another --batch or --gpus"
            )
        share = stage.batch // devices
        for precision in ("bf16", "fp32"):
            counts = {n: footprint(shapes, stage, n, precision) for n in sorted({share, 1})}
            for recompute in (False, True) if stage.trains != "autoencoder" else (False,):
                for samples in sorted(counts, reverse=True):
                    yield Setting(
                        stages=tuple(names),
                        precision=precision,
                        recompute=recompute,
                        samples=samples,
                        pieces=share // samples,
                        footprint=counts[samples],
                        devices=devices,
                    )


def _shape(stage: Stage) -> tuple[object, ...]:
    return stage.trains, stage.batch, stage.sides, stage.experts_on, bool(stage.semantic)


@click.command("plan", cls=Command)
@click.option(
    "--config",
    "name",
    default="flux-fill",
    show_default=True,
    metavar="flux-fill|CHECKPOINT",
    help="Whose sizes: FLUX.1-Fill with Redux, or those of a checkpoint.",
)
@click.option("--recipe", "recipe_name", metavar="NAME|FILE.toml", help="[paper; mini's for minis]")
@click.option("--gpus", default=4, type=POSITIVE, show_default=True, help="That share a batch.")
@click.option(
    "--gpu-memory", default="80GiB", show_default=True, metavar="SIZE", help="Of each of them."
)
@click.option("--batch", type=POSITIVE, help="Samples a step, over all GPUs [the recipe's].")
@click.option("--size", type=click.IntRange(min=32), help="Working side in pixels [the model's].")
@click.option("--layout", type=click.Choice(["redux", "diptych"]), help="[the model's]")
def plan(
    name: str,
    recipe_name: str | None,
    gpus: int,
    gpu_memory: str,
    batch: int | None,
    size: int | None,
    layout: Literal["redux", "diptych"] | None,
) -> None:
    """Count parameters and memory of a run, on no device and without a weight."""
    shapes = shapes_of(name)
    mot = replace(shapes.mot, size=size or shapes.mot.size, layout=layout or shapes.mot.layout)
    shapes = replace(shapes, mot=mot)
    recipe = find_recipe(recipe_name or ("paper" if name == "flux-fill" else "mini"))
    stages = tuple(replace(stage, batch=batch or stage.batch) for stage in recipe.stages)
    limit = _size(gpu_memory)
    console = Console()
    with without_memory():
        checkpoint = fake_checkpoint(shapes, torch.float32)
        console.print(_parts_table(checkpoint, name))
        tokens = {stage.name: tokens_of(checkpoint, stage) for stage in stages}
    console.print(f"Transformer tokens a sample: {_listed(tokens)}.")
    settings = list(settings_of(shapes, stages, gpus))
    for names in dict.fromkeys(setting.stages for setting in settings):
        ways = [setting for setting in settings if setting.stages == names]
        title = f"{', '.join(names)}: GiB on one of {gpus} × {gpu_memory}"
        console.print(_settings_table(title, ways, limit))
        best = next((setting for setting in ways if setting.needs <= limit), None)
        console.print(f"Run with {best.options}." if best else "Nothing fits.")


def _parts_table(checkpoint: Checkpoint, name: str) -> Table:
    table = Table(title=f"{name}: parameters")
    table.add_column("part")
    table.add_column("parameters", justify="right")
    table.add_column("of which")
    for key, module in checkpoint.modules().items():
        count = sum(parameter.numel() for parameter in module.parameters())
        note = ""
        if key == "experts":
            experts, linears = checkpoint.experts.experts, len(checkpoint.experts.linears)
            note = f"{experts} × {count // experts:,} on {linears} linears"
        if key == "gate":
            note = f"{checkpoint.gate.blocks} blocks × {checkpoint.gate.experts} experts"
        table.add_row(_NAMES[key], f"{count:,}", note)
    return table


def _settings_table(title: str, settings: list[Setting], limit: int) -> Table:
    table = Table(
        title=title,
        caption="learnt: weights, gradients, two moments, average; needs: the sum, a tenth for "
        "the allocator's gaps, 1 GiB for the driver",
    )
    headings = ("precision", "recompute", "samples", "frozen", "learnt", "activations")
    for heading in (*headings, "needs", "fits"):
        table.add_column(heading, justify="right")
    for setting in settings:
        counted = setting.footprint
        cells = (counted.frozen, counted.learning * 5, setting.activations, setting.needs)
        table.add_row(
            setting.precision,
            "yes" if setting.recompute else "no",
            f"{setting.pieces} × {setting.samples}",
            *(f"{cell / _GIB:.2f}" for cell in cells),
            "yes" if setting.needs <= limit else "no",
        )
    return table


def _listed(tokens: dict[str, int]) -> str:
    by_count: dict[int, list[str]] = {}
    for stage, count in tokens.items():
        by_count.setdefault(count, []).append(stage)
    return "; ".join(f"{count:,} ({', '.join(names)})" for count, names in by_count.items())


def _size(text: str) -> int:
    """Bytes of "80GiB".

    Raises RequestError for what is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", text)
    if match is None or match[2] not in _UNITS:
        raise RequestError(f"{text!r} is no size: give a number and one of {', '.join(_UNITS)}")
    return round(float(match[1]) * _UNITS[match[2]])

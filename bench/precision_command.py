"""`a2edit-bench precision`: what 8 bits cost, before and after ranges, factors and lifting."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from a2edit.bench.options import results_option
from a2edit.bench.progress import stage_bars
from a2edit.bench.rows import Row, Setup, append_rows
from a2edit.runtime.commands import Command

if TYPE_CHECKING:
    from a2edit.bench.precision import Stage


@click.command(cls=Command)
@click.option("--model", default="a2edit-mini", show_default=True, help="A checkpoint or its name.")
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="Held-out requests, each run to its picture in every way.",
)
@results_option("precision.csv")
def precision(model: str, samples: int, results: Path) -> None:
    """Velocities and pictures with int8 and fp8 linears against fp32, simulated in torch."""
    from a2edit.bench.reference import quiet

    quiet()
    from a2edit.bench.precision import Plan, measure_precision
    from a2edit.model.checkpoint import Checkpoint

    console = Console()
    checkpoint = Checkpoint.load(model)
    with Progress(console=console) as bar:
        stages, policies = measure_precision(checkpoint, Plan(samples=samples), stage_bars(bar))
    setup = Setup.here("precision", checkpoint.config.name, checkpoint.config.steps)
    append_rows(results / "precision.csv", [row for stage in stages for row in rows(setup, stage)])
    console.print(_table(stages))
    for kind, policy in policies.items():
        worst = max(fit.error for fit in policy.fits.values())
        own = max(fit.own for fit in policy.fits.values())
        held = "one calibration holds" if policy.shared else "linears were lifted for all routes"
        console.print(
            f"{kind}: over {len(policy.fits)} routes {held}; the worst errs by {worst:.2%}, with "
            f"ranges of its own by {own:.2%}"
        )
    console.print(f"appended to {results / 'precision.csv'}")


def rows(setup: Setup, stage: "Stage") -> Iterator[Row]:
    """A stage's figures."""
    name = f"{stage.kind} {stage.name}"
    errors = 100 * stage.errors
    yield setup.row(f"{name}: routed weights in 8 bits", "%", [100 * stage.share])
    yield setup.row(f"{name}: velocity error", "%", errors.flatten().tolist())
    yield setup.row(f"{name}: velocity error, worst step", "%", errors.max(1).tolist())
    yield setup.row(f"{name}: velocity error, largest", "%", [float(errors.max())])
    for zone in stage.pictures[0]:
        found = [picture[zone] for picture in stage.pictures if zone in picture]
        yield setup.row(f"{name}: PSNR, {zone}", "dB", [it.psnr_db for it in found])
        yield setup.row(f"{name}: PSNR, {zone}, least", "dB", [min(it.psnr_db for it in found)])
        yield setup.row(f"{name}: SSIM, {zone}", "", [it.ssim for it in found])


def _table(stages: "list[Stage]") -> Table:
    table = Table(title="8 bits in torch, against fp32: medians (the worst)", box=None)
    heads = ("", "weights", "velocity error, %", "PSNR dB: mask", "band", "outside", "SSIM: mask")
    for head in heads:
        table.add_column(head, justify="right" if head else "left")
    for stage in stages:
        errors = 100 * stage.errors
        zones = {
            zone: [picture[zone] for picture in stage.pictures if zone in picture]
            for zone in ("mask", "band", "outside")
        }
        ratios = [
            f"{np.median([it.psnr_db for it in found]):.1f} ({min(it.psnr_db for it in found):.1f})"
            for found in zones.values()
        ]
        table.add_row(
            f"{stage.kind} {stage.name}",
            f"{stage.share:.0%}",
            f"{np.median(errors):.2f} ({errors.max():.2f})",
            *ratios,
            f"{np.median([it.ssim for it in zones['mask']]):.4f}",
        )
    return table

"""`a2edit-bench routes`: predicted against measured route errors, and the error against K."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from a2edit.bench.options import data_option, plot_option, results_option
from a2edit.bench.progress import stage_bars
from a2edit.bench.rows import Row, Setup, append_rows
from a2edit.runtime.commands import Command

if TYPE_CHECKING:
    from a2edit.bench.routes import Agreement, RouteErrors


@click.command(cls=Command)
@click.option("--model", default="a2edit-mini", show_default=True, help="A checkpoint or its name.")
@click.option(
    "--samples",
    type=click.IntRange(min=4),
    default=24,
    show_default=True,
    help="Held-out requests; each is run at its own gate table and at 14 routes.",
)
@click.option(
    "--calibration",
    type=click.IntRange(min=32),
    default=64,
    show_default=True,
    help="Gate tables that routes are made from.",
)
@click.option(
    "--deep",
    type=click.IntRange(min=2),
    default=16,
    show_default=True,
    help="Of those, how many the denoiser is traced on.",
)
@data_option
@plot_option("out/routes.png", "Predicted against measured, and the error against K, as a picture.")
@results_option("routes.csv")
def routes(
    model: str,
    samples: int,
    calibration: int,
    deep: int,
    data: Path | None,
    plot: Path,
    results: Path,
) -> None:
    """Predicted route errors against velocities that were run, over 1 to 32 routes."""
    from a2edit.bench.reference import quiet

    quiet()
    from a2edit.bench.routes import Plan, measure_routes
    from a2edit.model.checkpoint import Checkpoint

    console = Console()
    plan = Plan(samples=samples, calibration=calibration, deep=deep, data=data)
    checkpoint = Checkpoint.load(model)
    with Progress(console=console) as bar:
        found = measure_routes(checkpoint, plan, stage_bars(bar))
    setup = Setup.here("routes", checkpoint.config.name, checkpoint.config.steps)
    append_rows(results / "routes.csv", _rows(setup, found, plan.compared))
    console.print(_curve(found))
    for line in _summary(found, plan.compared):
        console.print(line)
    draw(found, plot)
    console.print(f"{plot}; rows appended to {results / 'routes.csv'}")


def _rows(setup: Setup, found: "RouteErrors", compared: int) -> list[Row]:
    rows = []
    for name, pairs in _pairs(found, compared).items():
        rows += [
            setup.row(f"{name}: Spearman of predicted and measured", "", [pairs.rank]),
            setup.row(f"{name}: Spearman, data-free metric", "", [pairs.free_rank]),
            setup.row(f"{name}: predicted / measured", "x", pairs.ratios.tolist()),
            setup.row(f"{name}: predicted / measured, data-free", "x", pairs.free_ratios.tolist()),
        ]
    for count in np.unique(found.counts):
        chosen = found.counts == count
        for kind in ("predicted", "measured"):
            errors = 100 * getattr(found.served, kind)[chosen]
            rows.append(setup.row(f"{kind} error of the nearest of {count}", "%", errors.tolist()))
    return rows


def _pairs(found: "RouteErrors", compared: int) -> dict[str, "Agreement"]:
    return {
        "nearest of 1 to 32 routes": found.served,
        f"every one of {compared} routes": found.everyone,
    }


def _summary(found: "RouteErrors", compared: int) -> list[str]:
    lines = []
    for name, pairs in _pairs(found, compared).items():
        low, middle, high = np.percentile(pairs.ratios, (5, 50, 95))
        lines.append(
            f"{name}, {len(pairs.measured)} pairs: Spearman {pairs.rank:.3f} (data-free "
            f"{pairs.free_rank:.3f}), predicted / measured {middle:.2f} ({low:.2f} to {high:.2f})"
        )
    return lines


def _curve(found: "RouteErrors") -> Table:
    table = Table(title="relative error of the velocity, nearest route, %", box=None)
    for head in ("K", "predicted: median", "p95", "measured: median", "p95"):
        table.add_column(head, justify="right")
    for count in np.unique(found.counts):
        chosen = found.counts == count
        cells = [
            f"{100 * np.percentile(errors[chosen], share):.3f}"
            for errors in (found.served.predicted, found.served.measured)
            for share in (50, 95)
        ]
        table.add_row(str(count), *cells)
    return table


def draw(found: "RouteErrors", path: Path) -> None:
    """Left, every pair as a point, both axes logarithmic; right, the error against K."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for pairs, label, colour in (
        (found.everyone, "every route", "#9aa1ae"),
        (found.served, "the nearest", "#c2412d"),
    ):
        left.loglog(100 * pairs.predicted, 100 * pairs.measured, ".", color=colour, label=label)
    ends = np.array(left.get_xlim())
    left.plot(ends, ends, lw=0.8, color="black")
    left.set(xlabel="predicted error, %", ylabel="measured error of the velocity, %")
    left.legend(frameon=False)
    counts = np.unique(found.counts)
    for kind, style in (("predicted", "--"), ("measured", "-")):
        errors = [100 * getattr(found.served, kind)[found.counts == count] for count in counts]
        for share, colour in ((50, "#2b5c8a"), (95, "#c2412d")):
            values = [np.percentile(of, share) for of in errors]
            name = "median" if share == 50 else "p95"
            right.loglog(counts, values, style, marker="o", color=colour, label=f"{kind}, {name}")
    right.set(xlabel="routes K", ylabel="error of the nearest route, %")
    right.set_xticks(counts, [str(count) for count in counts])
    right.minorticks_off()
    right.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)

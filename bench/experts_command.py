"""`a2edit-bench experts`: have the experts of a checkpoint become different, and who wakes whom?"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from a2edit.bench.options import data_option, half_option, plot_option, results_option, split_option
from a2edit.bench.progress import stage_bars
from a2edit.bench.rows import Row, Setup, append_rows
from a2edit.runtime.commands import Command

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from a2edit.bench.experts import Plan, Specialisation
    from a2edit.training.scenes import Split


@click.command(cls=Command)
@click.option("--model", default="a2edit-mini", show_default=True, help="A checkpoint or its name.")
@click.option(
    "--samples",
    type=click.IntRange(min=80),
    default=320,
    show_default=True,
    help="Requests whose gate tables are read, the categories in turn.",
)
@click.option(
    "--effects",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Samples a category on which every expert is switched off (0: none is).",
)
@click.option(
    "--routes",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Static routes that are to cover the requests.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, min_open=True),
    default=0.01,
    show_default=True,
    help="Predicted error of the velocity up to which a route covers a request.",
)
@split_option
@data_option
@half_option
@plot_option("out/experts.png", "Weights and effects by category, as a picture.")
@results_option("experts.csv")
def experts(
    model: str,
    samples: int,
    effects: int,
    routes: int,
    tolerance: float,
    split: "Split",
    data: Path | None,
    half: bool,
    plot: Path,
    results: Path,
) -> None:
    """Mutual information of category and gate table, active sets, experts switched off in turn."""
    from a2edit.bench.reference import quiet

    quiet()
    from a2edit.bench.experts import Plan, measure_experts
    from a2edit.model.checkpoint import Checkpoint
    from a2edit.training.datasets.unieditsource import UniEditSource

    console = Console()
    checkpoint = Checkpoint.load(model)
    plan = Plan(samples, effects, routes, tolerance, split, half)
    with Progress(console=console) as bar:
        source = UniEditSource(data) if data else None
        found = measure_experts(checkpoint, plan, source, stage_bars(bar))
    name = checkpoint.config.name
    setup = Setup.here(f"experts, {split} kinds", name, checkpoint.config.steps)
    append_rows(results / "experts.csv", _rows(setup, found))
    console.print(_table(found))
    for line in _summary(found, plan):
        console.print(line)
    draw(found, plot)
    console.print(f"{plot}; rows appended to {results / 'experts.csv'}")


def _summary(found: "Specialisation", plan: "Plan") -> list[str]:
    probe, active = found.probe, found.active
    sets = list(active.shares.items())[:4]
    shown = "; ".join(f"{'+'.join(map(str, members))} {share:.0%}" for members, share in sets)
    errors = found.route_errors
    median, late = np.median(errors), np.percentile(errors, 95)
    missed = []
    if (own := _own_effects(found)) is not None:
        changes = f"{own.mean():+.1%} on average, {own.min():+.1%} to {own.max():+.1%}"
        missed = [f"a category's loss without its strongest expert: {changes}"]
    return [
        f"category from the gate table: {probe.accuracy:.1%} right (chance {probe.chance:.1%})",
        f"mutual information: at least {probe.bits:.2f} of {probe.entropy:.2f} bits",
        f"active experts a block: {active.mean:.2f}; commonest sets: {shown}",
        f"{plan.routes} routes cover {found.covered:.1%} within {plan.tolerance:g}",
        f"predicted route error: median {median:.4f}, p95 {late:.4f}",
        *missed,
    ]


def _own_effects(found: "Specialisation") -> "NDArray[np.float64] | None":
    """By category: the rise of its loss without the expert that the gate gives it most of."""
    if found.effects is None:
        return None
    own: NDArray[np.float64] = found.effects[range(len(found.effects)), found.weights.argmax(1)]
    return own


def _rows(setup: Setup, found: "Specialisation") -> list[Row]:
    rows = [
        setup.row("category from the gate table, accuracy", "%", [100 * found.probe.accuracy]),
        setup.row("mutual information, at least", "bits", [found.probe.bits]),
        setup.row("active experts a block", "experts", [found.active.mean]),
        setup.row("requests covered by static routes", "%", [100 * found.covered]),
        setup.row("predicted route error", "%", (100 * found.route_errors).tolist()),
    ]
    if (own := _own_effects(found)) is not None:
        subject = "its strongest expert switched off, rise of the loss, by category"
        rows.append(setup.row(subject, "%", (100 * own).tolist()))
    for expert, effects in enumerate([] if found.effects is None else found.effects.T):
        subject = f"expert {expert} switched off, rise of the loss, by category"
        rows.append(setup.row(subject, "%", (100 * effects).tolist()))
    return rows


def _table(found: "Specialisation") -> Table:
    """Mean weight by category and expert; before it the rise of the loss, in percent."""
    title = (
        "mean weight" if found.effects is None else "loss without the expert, % (its mean weight)"
    )
    table = Table(title=title, box=None)
    table.add_column("category")
    for expert in range(found.weights.shape[1]):
        table.add_column(str(expert), justify="right")
    for row, category in enumerate(found.categories):
        cells = [f"{weight:.2f}" for weight in found.weights[row]]
        if found.effects is not None:
            rises = found.effects[row]
            cells = [f"{100 * r:+.1f} ({w})" for r, w in zip(rises, cells, strict=True)]
        table.add_row(category, *cells)
    return table


def draw(found: "Specialisation", path: Path) -> None:
    """Heat maps, category by expert: mean gate weight, and loss when switched off."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    maps: list[tuple[str, NDArray[np.float64], dict[str, Any], str]] = [
        ("mean gate weight", found.weights, {"cmap": "Blues", "vmin": 0}, ".2f")
    ]
    if found.effects is not None:
        percent = 100 * found.effects
        reach = max(float(np.abs(percent).max()), 1e-6)
        style = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
        maps.append(("rise of the loss without the expert, %", percent, style, ".1f"))
    size = (5.5 * len(maps), 4.2)
    figure, grid = plt.subplots(1, len(maps), figsize=size, layout="constrained", squeeze=False)
    for axis, (title, values, style, shown) in zip(grid[0], maps, strict=True):
        image = axis.imshow(values, aspect="auto", **style)
        axis.set_title(title)
        axis.set_xlabel("expert")
        axis.set_xticks(range(values.shape[1]))
        axis.set_yticks(range(len(found.categories)), found.categories)
        middle = float(np.abs(values).max()) * 0.6
        for (row, column), value in np.ndenumerate(values):
            ink = "white" if abs(value) > middle else "black"
            axis.text(column, row, f"{value:{shown}}", ha="center", va="center", color=ink, size=8)
        figure.colorbar(image, ax=axis)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)

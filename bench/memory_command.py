"""`a2edit-bench memory`: what memory plans foresee, and what a process takes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from a2edit.bench.memory_full import PAPER, full_loads
from a2edit.bench.options import bundle_option, plot_option, results_option
from a2edit.bench.rows import Row, Setup, append_rows
from a2edit.runtime.commands import Command
from a2edit.runtime.memory.plans import ladder, peaks, reread

if TYPE_CHECKING:
    from a2edit.bench.memory import Measured
    from a2edit.runtime.memory.plans import Load

Note = Callable[[str], None]

MIB = 2**20
STEPS = 2  # of an edit: more take no more memory


@click.command(cls=Command)
@bundle_option
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--engine", default="auto", show_default=True, help="As of a2edit-run.")
@results_option("memory.csv")
@click.option(
    "--full",
    metavar="MODEL",
    help="Also foresee plans of a full-size model from its config files (flux-fill, or a "
    "checkpoint): some minutes, and nothing is run.",
)
@plot_option("out/memory.svg", "Peaks, foreseen and measured, as a picture.")
def memory(
    bundle: Path, device: str, engine: str, results: Path, full: str | None, plot: Path
) -> None:
    """Peak memory by stage and plan, foreseen and measured; each plan is a process of its own."""
    from a2edit.runtime.bundle import open_bundle

    console = Console()
    manifest = open_bundle(bundle).manifest
    setup = Setup.here("memory", manifest.name, 0, device)
    with (
        console.status("starting") as status,
        tempfile.TemporaryDirectory() as folder,
    ):
        found = measure_bundle(bundle, device, engine, Path(folder), status.update)
        rows = [row for one in found for row in measured_rows(setup, one)]
        if full:
            heavy = Setup.here("memory", full, 0)
            for what, load in full_loads(full, status.update).items():
                rows += foreseen_rows(heavy, what, load)
            rows += [
                heavy.row(f"published, A100, {what}", "MiB", [float(size)])
                for what, size in PAPER.items()
            ]
    append_rows(results / "memory.csv", rows)
    console.print(_table(found))
    draw(found, plot)
    console.print(f"{plot}; rows appended to {results / 'memory.csv'}")


def measure_bundle(
    bundle: Path, device: str, engine: str, folder: Path, note: Note
) -> list[Measured]:
    """Every case; requests are written to `folder`, for processes that must not draw them."""
    from a2edit.bench.heldout.cases import drawn_cases
    from a2edit.bench.latency import write_request
    from a2edit.bench.memory import cases, measure_plan
    from a2edit.runtime.bundle import open_bundle
    from a2edit.runtime.engines.pool import EnginePool

    load = EnginePool(open_bundle(bundle), device, engine).load()
    files = []
    for case in drawn_cases()[: load.routes + 2]:
        (folder / case.name).mkdir()
        # a prompt of its own: an edit with that of the last one leaves the modulation closed
        files.append(write_request(case, STEPS, folder / case.name, f"a {case.name}"))
    found = []
    for plan, merged in cases(load):
        note(f"memory: {plan}")
        found.append(measure_plan(bundle, device, engine, plan, merged, files))
    return found


def measured_rows(setup: Setup, one: Measured) -> list[Row]:
    """Of a plan: every stage, and how the two peaks compare."""
    rows = []
    for stage, taken in one.measured.items():
        for what, size in (("foreseen", one.foreseen[stage]), ("measured", taken)):
            rows.append(setup.row(f"{one.name}: {stage}, {what}", "MiB", [size / MIB]))
    return [*rows, setup.row(f"{one.name}: peak, foreseen / measured", "x", [1 + one.error])]


def foreseen_rows(setup: Setup, what: str, load: Load) -> list[Row]:
    """Of a model that was not run: engines, a weight set, and every plan that is worth having."""
    from a2edit.bench.memory import name_of

    rows = [
        setup.row(f"{what}: {name}, held, foreseen", "MiB", [engine.held / MIB])
        for name, engine in load.engines.items()
    ]
    rows.append(setup.row(f"{what}: a weight set, foreseen", "MiB", [load.set_bytes / MIB]))
    for plan in ladder(load):
        name = f"{what}: {name_of(plan)} sets"
        for stage, size in peaks(load, plan).items():
            rows.append(setup.row(f"{name}: {stage}, foreseen", "MiB", [size / MIB]))
        again = reread(load, plan) / MIB
        rows.append(setup.row(f"{name}: read again an edit, foreseen", "MiB", [again]))
    return rows


def _table(found: Sequence[Measured]) -> Table:
    table = Table(title="peak resident set, MiB", box=None, header_style="bold")
    for head in ("plan", "foreseen", "measured", "off by"):
        table.add_column(head, justify="left" if head == "plan" else "right")
    for one in found:
        sizes = (f"{max(by.values()) / MIB:.0f}" for by in (one.foreseen, one.measured))
        table.add_row(one.name, *sizes, f"{one.error:+.1%}")
    return table


def draw(found: Sequence[Measured], path: Path) -> None:
    """Two bars a plan and stage, plan under plan."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "memory"  # the same ids every time
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    stages = ("encode", "route", "denoise", "decode")
    figure, axes = plt.subplots(
        1, len(stages), sharey=True, figsize=(11, 4.2), layout="constrained"
    )
    for axis, stage in zip(axes, stages, strict=True):
        for place, one in enumerate(found):
            for offset, sizes, colour in (
                (-0.2, one.foreseen, "#9aa1ae"),
                (0.2, one.measured, "#c2412d"),
            ):
                if stage in sizes:
                    axis.barh(place + offset, sizes[stage] / MIB, 0.38, color=colour)
        axis.set(title=stage, xlabel="MiB")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(found)), [one.name for one in found])
    axes[0].invert_yaxis()
    handles = [
        Patch(color=colour, label=name)
        for name, colour in (("foreseen", "#9aa1ae"), ("measured", "#c2412d"))
    ]
    axes[-1].legend(handles=handles, frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)

"""`a2edit-bench export`: what exporting a full-size model takes."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from a2edit.bench.exporting import LAYOUTS, ExportCost, measure_export
from a2edit.bench.options import results_option
from a2edit.bench.rows import Setup, append_rows
from a2edit.export.source import GRAPH_NAMES
from a2edit.runtime.commands import Command


@click.command(cls=Command)
@results_option("export.csv")
@click.option(
    "--model", default="flux-fill", show_default=True, help="Or a checkpoint: its config files."
)
@click.option("--layout", type=click.Choice(LAYOUTS), default="redux", show_default=True)
@click.option(
    "--graph",
    "graphs",
    multiple=True,
    type=click.Choice(GRAPH_NAMES),
    default=GRAPH_NAMES,
    help="Only these; may be repeated. Default: all.",
)
def export(results: Path, model: str, layout: str, graphs: tuple[str, ...]) -> None:
    """Export graphs without weights, each in a process of its own: seconds, memory, sizes."""
    console = Console()
    setup = Setup.here("export", f"{model}, {layout}", 0)
    table = Table(box=None, header_style="bold")
    for head in ("graph", "seconds", "peak MB", "nodes", "inputs", "parameters", "file MB"):
        table.add_column(head, justify="left" if head == "graph" else "right")
    rows = []
    with console.status("starting") as status:
        for name in graphs:
            status.update(name)
            cost = measure_export(model, layout, name)
            for what, unit, value in _figures(cost):
                rows.append(setup.row(f"{name}, {what}", unit, [value]))
            table.add_row(name, *_cells(cost))
    append_rows(results / "export.csv", rows)
    console.print(table)
    console.print(f"appended to {results / 'export.csv'}")


def _figures(cost: ExportCost) -> list[tuple[str, str, float]]:
    return [
        ("export", "s", cost.seconds),
        ("peak resident set", "MB", cost.peak),
        ("nodes", "", cost.nodes),
        ("inputs", "", cost.inputs),
        ("parameters outside", "MB", cost.parameter_bytes / 1e6),
        ("constants inside", "MB", cost.constant_bytes / 1e6),
        ("file", "MB", cost.file / 1e6),
    ]


def _cells(cost: ExportCost) -> list[str]:
    return [
        f"{cost.seconds:.1f}",
        f"{cost.peak:,.0f}",
        f"{cost.nodes:,}",
        str(cost.inputs),
        str(cost.parameters),
        f"{cost.file / 1e6:.2f}",
    ]

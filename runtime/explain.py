"""What happened in an edit, for people: what `a2edit-run --explain` prints."""

from rich.console import Console
from rich.table import Table

from a2edit.runtime.boxes import tight_box
from a2edit.runtime.manifest import Manifest
from a2edit.runtime.request import EditResult


def explain(result: EditResult, manifest: Manifest, console: Console) -> None:
    """Print window, route, expert weights and seconds."""
    facts = Table.grid(padding=(0, 2))
    width, height = result.image.size
    facts.add_row("image", f"{width}x{height}")
    facts.add_row("window", f"{result.window} (what the model saw, at {manifest.model.size} px)")
    if result.prepared is not None:
        box = tight_box(result.prepared.source_mask)
        share = max(box.width, box.height) / result.window.width
        facts.add_row("region", f"{box}, {share:.0%} of the window's side")
    tolerance = manifest.route_metric.tolerance
    verdict = "within" if result.predicted_error <= tolerance else "above"
    facts.add_row(
        "route",
        f"{result.route}, predicted error {result.predicted_error:.2%}, {verdict} the "
        f"tolerance of {tolerance:.0%}; weights {result.supply}",
    )
    facts.add_row("seed, steps", f"{result.seed}, {result.steps}")
    facts.add_row("bundle", f"{manifest.name} {result.bundle_hash[:16]}")
    console.print(facts)

    route = manifest.routes[result.route].table
    table = Table(title="experts: the gate's wish / what ran, in percent (blank: asleep)")
    table.add_column("block", justify="right")
    for expert in range(manifest.model.experts):
        table.add_column(f"{expert}", justify="right")
    for block, (wanted, ran) in enumerate(zip(result.gate_weights.tolist(), route, strict=True)):
        cells = [
            f"{100 * w:.0f}/{100 * r:.0f}" if w or r else ""
            for w, r in zip(wanted, ran, strict=True)
        ]
        table.add_row(f"{block}", *cells)
    console.print(table)

    total = sum(result.timings.values())
    seconds = Table(title=f"{total:.3f} s")
    for stage in result.timings:
        seconds.add_column(stage, justify="right")
    seconds.add_row(*(f"{value:.3f}" for value in result.timings.values()))
    console.print(seconds)

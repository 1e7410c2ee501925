"""What happened in an edit, for people: what `a2edit-run --explain` prints."""

import numpy as np
from rich.console import Console
from rich.table import Table

from a2edit.runtime.boxes import tight_box
from a2edit.runtime.editor import Editor
from a2edit.runtime.request import EditResult

_SUPPLIES = {"static": "static, built ahead", "merged": "merged for this request"}


NEAREST = 3  # routes that are listed beside the one that ran


def explain(result: EditResult, editor: Editor, console: Console) -> None:
    """Print window, route, expert weights, memory and seconds of a result of `editor`."""
    manifest, routes = editor.bundle.manifest, editor.routes
    facts = Table.grid(padding=(0, 2))
    width, height = result.image.size
    facts.add_row("image", f"{width}x{height}")
    facts.add_row("window", f"{result.window} (what the model saw, at {manifest.model.size} px)")
    if result.prepared is not None:
        box = tight_box(result.prepared.source_mask)
        share = max(box.width, box.height) / result.window.width
        facts.add_row("region", f"{box}, {share:.0%} of the window's side")
    mean = result.gate_weights.mean(axis=0)
    awake = [int(expert) for expert in np.argsort(-mean, kind="stable") if mean[expert] > 0]
    woken = ", ".join(f"{expert} at {mean[expert]:.1%}" for expert in awake)
    facts.add_row("experts woken", f"{woken} (mean weight over the blocks)")
    ranked = routes.ranked(result.gate_weights)
    within = "within" if ranked[0][1] <= routes.tolerance else "above"
    verdict = f"{within} the tolerance of {routes.tolerance:.3%}"
    if result.supply == "merged":
        verdict = f"as the nearest route, {ranked[0][0]}, is {verdict}"
    facts.add_row(
        "route",
        f"{result.route} ({_SUPPLIES[result.supply]}), predicted error "
        f"{result.predicted_error:.3%}, {verdict}",
    )
    others = [pair for pair in ranked if pair[0] != result.route]
    if others:
        near = ", ".join(f"{name} {error:.3%}" for name, error in others[:NEAREST])
        facts.add_row("next nearest" if result.supply == "static" else "nearest", near)
    facts.add_row("seed, steps", f"{result.seed}, {result.steps}")
    if manifest.step_cache:
        facts.add_row("skipped steps", f"{result.skipped_steps} of {result.steps}")
    facts.add_row("memory", str(editor.memory))
    facts.add_row("bundle", f"{manifest.name} {result.bundle_hash[:16]}")
    console.print(facts)

    table = Table(title="experts: the gate's wish / what ran, in percent (blank: asleep)")
    table.add_column("block", justify="right")
    for expert in range(manifest.model.experts):
        table.add_column(f"{expert}", justify="right")
    rows = zip(result.gate_weights.tolist(), result.route_table.tolist(), strict=True)
    for block, (wanted, ran) in enumerate(rows):
        cells = [
            f"{100 * w:.0f}/{100 * r:.0f}" if w or r else ""
            for w, r in zip(wanted, ran, strict=True)
        ]
        table.add_row(f"{block}", *cells)
    console.print(table)

    total = sum(result.timings.values())
    seconds = Table(title=f"{total:.3f} s")
    seconds.add_column("stage")
    seconds.add_column("s", justify="right")
    for stage, value in result.timings.items():
        seconds.add_row(stage, f"{value:.3f}")
    console.print(seconds)

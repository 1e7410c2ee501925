"""What is in a bundle, printed (`a2edit-build inspect`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from a2edit.export.pixels import ZONES
from a2edit.export.steps.merge import base_weights
from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.engines.pool import DENOISER
from a2edit.runtime.manifest import EngineEntry, GraphEntry, Manifest, StepCacheEntry

if TYPE_CHECKING:
    from a2edit.export.recheck import Rechecked


def print_bundle(folder: Path, console: Console) -> None:
    """Check a bundle's files and print model, routes, engines, sizes and figures.

    Raises:
        BundleError: missing, damaged or of another schema version.
    """
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    model, sampler = manifest.model, manifest.sampler
    rows, columns = model.grid(model.size)
    total = sum(entry.bytes for entry in manifest.files.values())
    console.print(f"[bold]{manifest.name}[/]  {total / 1e6:.1f} MB in {len(manifest.files)} files")
    console.print(f"bundle hash  {manifest.bundle_hash}", soft_wrap=True)
    console.print(f"checkpoint   {model.checkpoint_hash}", soft_wrap=True)
    console.print(
        f"model        {model.layout}, {model.size}×{model.size}, {rows * columns} tokens, "
        f"{model.blocks} blocks × {model.experts} experts; {sampler.steps} steps, "
        f"guidance {sampler.guidance:g}",
        soft_wrap=True,
    )
    if len(model.sizes) > 1 or model.batch > 1:
        sides = ", ".join(map(str, model.sizes))
        console.print(f"engines take sizes {sides}; up to {model.batch} requests a run")
    console.print(f"past routes  {_past(bundle)}", soft_wrap=True)
    for target in sorted(manifest.engines):
        console.print(_engines(manifest, target))
        console.print(_routes(manifest, target))
        if manifest.merge:
            console.print(f"merged by    {_merger(manifest, target)}", soft_wrap=True)
        if merged := manifest.verification.get(target, {}).get("merged"):
            console.print(_merged(merged))
        if manifest.step_cache:
            console.print(_step_cache(manifest.step_cache, manifest.verification.get(target, {})))
        verified = manifest.verification.get(target, {})
        console.print(f"verified by  {verified.get('runner', 'nobody')}", soft_wrap=True)
        for said in verified.get("accepted", ()):
            console.print(f"[yellow]accepted     {said}[/]", soft_wrap=True)
        for said in verified.get("step_cache", {}).get("over", ()):
            console.print(f"[yellow]step cache   {said}[/]", soft_wrap=True)
    console.print(
        "made with    " + ", ".join(f"{key} {value}" for key, value in manifest.tools.items()),
        soft_wrap=True,
    )


def print_rechecked(figures: Sequence[Rechecked], console: Console) -> None:
    """Figures taken again, a table a target."""
    for target in sorted({figure.target for figure in figures}):
        table = plain_table(
            f"{target}, run here",
            ("engine",),
            ("error", "recorded", "allowed", "dB in mask", "needed", ""),
        )
        for figure in figures:
            if figure.target != target:
                continue
            said = "" if figure.now.passed else "accepted" if figure.accepted else "OVER"
            table.add_row(
                figure.name,
                f"{figure.now.error:.1e}",
                f"{figure.before:.1e}",
                f"{figure.now.tolerance:.0e}",
                *_picture(figure.now.to_dict()),
                said,
            )
        console.print(table)


def _picture(figure: Mapping[str, Any]) -> tuple[str, str]:
    """The worst PSNR in the mask, and what is needed; nothing where no picture was compared."""
    if "pictures" not in figure:
        return "", ""
    return f"{figure['pictures']['mask']['psnr_db']:.1f}", f"{figure['least_psnr_db']:g}"


def _past(bundle: Bundle) -> str:
    """Up to where a route serves, what happens past it, and on how much that was calibrated."""
    manifest = bundle.manifest
    merged = "not merged on demand (built --routes-only)"
    if manifest.merge:
        size = manifest.files[manifest.merge.file].bytes / 1e6
        merged = f"merged on demand from {manifest.merge.file} ({size:.1f} MB{_base(bundle)})"
    samples = len(manifest.calibration.categories) if manifest.calibration else 0
    return (
        f"above a predicted error of {manifest.route_metric.tolerance:.2%} {merged}; "
        f"{samples} calibration samples"
    )


def _merger(manifest: Manifest, target: str) -> str:
    """What merges routes for a target, and from which types to which."""
    kernels = manifest.merge_kernels.get(target, ())
    if not kernels:
        return "the processor"
    pairs = sorted({f"{kernel.base} to {kernel.weight}" for kernel in kernels})
    return f"the GPU, {len(kernels)} kernels: {', '.join(pairs)}"


def _base(bundle: Bundle) -> str:
    """How much of what routes are merged from is in 8 bits; nothing where none is."""
    assert bundle.manifest.merge
    whole, eight = base_weights(bundle.path(bundle.manifest.merge.file))
    return f", {eight / whole:.0%} of its base in int8" if eight else ""


def _engines(manifest: Manifest, target: str) -> Table:
    engines = manifest.engines[target]
    made_by = {f"{e.backend} {e.version.partition('-')[0]}" for e in engines.values()}
    table = plain_table(
        f"Engines for {target}, {', '.join(sorted(made_by))}",
        ("engine", "precision", "weights"),
        ("MB", "error", "allowed"),
    )
    for name, entry in sorted(engines.items()):
        table.add_row(
            name,
            entry.precision,
            entry.materialise if _graph_of(manifest, name, entry).weights else "",
            f"{manifest.files[entry.file].bytes / 1e6:.1f}",
            *_figure(manifest, target, "graphs", name),
        )
    return table


def _routes(manifest: Manifest, target: str) -> Table:
    variant = next(
        entry.variant
        for name, entry in manifest.engines[target].items()
        if name.partition(".")[0] == DENOISER
    )
    table = plain_table(
        f"Routes for {target}, weights as {variant}",
        ("route",),
        ("members", "predicted", "error", "allowed", "PSNR", "MB", "experts awake"),
    )
    for name, route in sorted(manifest.routes.items()):
        weights = manifest.files[manifest.weight_sets[variant][name].file]
        active = {expert for row in route.table for expert, weight in enumerate(row) if weight}
        table.add_row(
            name,
            str(route.members),
            f"{route.predicted_error:.2%}",
            *_figure(manifest, target, "routes", name),
            _picture(manifest.verification.get(target, {}).get("routes", {}).get(name, {}))[0],
            f"{weights.bytes / 1e6:.1f}",
            " ".join(map(str, sorted(active))),
        )
    return table


def _merged(figures: Mapping[str, Any]) -> Table:
    """Routes as they are when they are merged from a base in 8 bits."""
    table = plain_table(
        "The same routes, merged on demand", ("route",), ("error", "allowed", "PSNR")
    )
    for name, figure in sorted(figures.items()):
        error, allowed = f"{figure['relative_error']:.1e}", f"{figure['tolerance']:.0e}"
        table.add_row(name, error, allowed, _picture(figure)[0])
    return table


def _step_cache(entry: StepCacheEntry, verified: Mapping[str, Any]) -> Table:
    table = plain_table(
        f"Step cache, {entry.kind}:{entry.threshold:g}, up to {entry.most_skipped} steps in a row",
        ("route",),
        ("error by change", "skipped", "error", "dB in mask", "around", "outside"),
    )
    for route, slope in sorted(entry.slopes.items()):
        found = verified.get("step_cache", {}).get("routes", {}).get(route)
        cells = [""] * 5
        if found:
            zones = (found["pictures"].get(zone) for zone in ZONES)
            psnr = (f"{it['psnr_db']:.1f}" if it else "" for it in zones)
            cells = [f"{found['skipped']:.0%}", f"{found['relative_error']:.1e}", *psnr]
        table.add_row(route, f"{slope:.2f}", *cells)
    return table


def plain_table(title: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    """A table whose first columns hold words, and the others numbers."""
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for head in words:
        table.add_column(head, no_wrap=True)
    for head in numbers:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _graph_of(manifest: Manifest, name: str, engine: EngineEntry) -> GraphEntry:
    return manifest.graphs[name.partition(".")[0]][engine.variant]


def _figure(manifest: Manifest, target: str, kind: str, name: str) -> tuple[str, str]:
    entry = manifest.verification.get(target, {}).get(kind, {}).get(name)
    if entry is None:
        return "", ""
    return f"{entry['relative_error']:.1e}", f"{entry['tolerance']:.0e}"

"""Modules → ONNX graphs without weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from a2edit.export.edge import graph_file, write_graph
from a2edit.export.files import write_json
from a2edit.export.openings import PROFILES_FILE
from a2edit.export.steps.calibrate import read_ranges, read_smooth

if TYPE_CHECKING:
    import onnx_ir as ir

    from a2edit.calibration.policy import GraphPolicy
    from a2edit.export.openings import Openings
    from a2edit.export.source import Source


def save_parameters(folder: Path, source: Source, narrow: bool) -> None:
    """The shared file; where `narrow`, without the weights that get 8 bits: they have their own."""
    from a2edit.export.onnx_export import SHARED_FILE
    from a2edit.export.weight_only import WEIGHT_ONLY_FILE, is_weight_only, save_weight_only
    from a2edit.export.weights import save_shared

    outline, path = source.outline, folder / SHARED_FILE
    if not narrow:
        save_shared(outline, source.folder, path)
        return
    save_shared(outline, source.folder, path, without=is_weight_only)
    save_weight_only(outline, source.folder, folder / WEIGHT_ONLY_FILE)


def save_graph(
    folder: Path,
    name: str,
    policy: GraphPolicy,
    source: Source,
    openings: Openings,
    shared: Path,
    ranges: Path | None,
) -> None:
    """One variant's ONNX file, graph.json and profiles.json.

    `shared` and `ranges` are their steps' folders.
    """
    from a2edit.export.activations import activation_bytes
    from a2edit.export.onnx_export import SHARED_FILE, save_onnx
    from a2edit.export.passes.external import large_matrices
    from a2edit.export.precision import in_precision
    from a2edit.export.weight_only import WEIGHT_ONLY_FILE
    from a2edit.export.weights import places

    peaks, smooth = (read_ranges(ranges), read_smooth(ranges)) if ranges else (None, None)
    held = set(source.routed_linears(name))
    peaks = {linear: peak for linear, peak in peaks.items() if linear in held} if peaks else None

    def variant(openings: Openings) -> ir.Model:
        # Passes rewrite in place, and other variants come from the same export.
        return in_precision(source.exported(name, openings).clone(), policy, peaks, smooth)

    model = variant(openings)
    activations = activation_bytes(model)
    if not activations:  # its shapes are open
        activations = openings.batch * activation_bytes(variant(openings.largest))
    stored = places(shared / SHARED_FILE)
    narrow = places(shared / WEIGHT_ONLY_FILE) if policy.weight_only else None
    # A compiler for GPUs keeps constants several times over while it builds (decision 14).
    fed = large_matrices(model, {**stored, **(narrow or {})}) if policy.rest == "bf16" else []
    save_onnx(model, stored, folder / graph_file(name, policy.variant), fed, narrow)
    graph = source.outline_graph(name)
    write_graph(model, len(graph.input_names), folder, fed, activations)
    write_json(folder / PROFILES_FILE, openings.profiles(graph))

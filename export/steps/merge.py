"""Base and experts as the runtime merges them, and the weight sets that a build merges ahead.

Both ends run `RouteMerger` on one file, so that a route's weight set holds the very bytes that the
runtime would merge for its table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from a2edit.export.files import read_json, write_json
from a2edit.export.steps.calibrate import read_smooth
from a2edit.runtime.engines.base import TensorSpec
from a2edit.runtime.manifest import MergeEntry
from a2edit.runtime.merge import RouteMerger

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route
    from a2edit.export.source import Source
    from a2edit.model.part_files import PartFiles
    from a2edit.model.peft_files import ExpertFiles

MERGE_FILE = "merge.safetensors"
PARTS = ("weight", "A", "B")  # of each linear in it


def save_merge_source(folder: Path, source: Source, ranges: Path | None = None) -> None:
    """merge.safetensors, each tensor as the checkpoint stores it, and merge.json.

    One linear is in memory at a time. `ranges` is the ranges step's folder, for an int8 denoiser.

    Raises:
        CheckpointError: a weight or an expert is missing, damaged or of another shape.
    """
    from a2edit.export.weights import TensorFile, array_of

    config, linears = source.outline.config, source.outline.linears
    base, experts = _files(source)
    smooth = read_smooth(ranges) if ranges else {}
    specs = [TensorSpec(name, "float32", array.shape) for name, array in smooth.items()]
    specs += merge_specs(source)
    with TensorFile(folder / MERGE_FILE, specs) as file:
        for name, array in smooth.items():
            file.write(name, array)
        for linear in linears:
            tensors = base.read(f"{linear.name}.weight"), *experts.read(linear.name)
            for part, tensor in zip(PARTS, tensors, strict=True):
                file.write(f"{linear.name}.{part}", array_of(tensor))
    blocks = {linear.name: linear.block for linear in linears}
    write_json(folder / "merge.json", {"scale": config.alpha / config.rank, "blocks": blocks})


def merge_specs(source: Source) -> list[TensorSpec]:
    """What is merged from, without factors of 8-bit linears: as the files' heads say it is stored.

    Raises:
        CheckpointError: a weight or an expert is missing, damaged or of another shape.
    """
    from a2edit.export.weights import dtype_name

    base, experts = _files(source)
    many, rank, specs = len(experts.files), source.outline.config.rank, []
    for linear in source.outline.linears:
        out, inner = linear.out_features, linear.in_features
        kinds = base.dtype(f"{linear.name}.weight"), *experts.dtypes(linear.name)
        shapes = (out, inner), (many, rank, inner), (many, out, rank)
        for part, kind, shape in zip(PARTS, kinds, shapes, strict=True):
            specs.append(TensorSpec(f"{linear.name}.{part}", dtype_name(kind), shape))
    return specs


def _files(source: Source) -> tuple[PartFiles, ExpertFiles]:
    from a2edit.model.checkpoint import FOLDERS
    from a2edit.model.part_files import PartFiles
    from a2edit.model.peft_files import ExpertFiles

    outline = source.outline
    config, folder = outline.config, source.folder
    base = PartFiles.of(folder / FOLDERS["transformer"], outline.transformer)
    return base, ExpertFiles.of(
        folder / "experts", outline.linears, config.num_experts, config.rank, config.alpha
    )


def read_merge_entry(folder: Path, file: str) -> MergeEntry:
    """What `save_merge_source` wrote, as the manifest holds it under the name `file`."""
    return MergeEntry(file=file, **read_json(folder / "merge.json"))


def save_weight_set(folder: Path, merge: Path, weights: Sequence[TensorSpec], route: Route) -> None:
    """<route>.safetensors: `weights`, the routed weights of a denoiser's graph, for one table.

    A few linears are in memory at a time, whatever their number.
    """
    from a2edit.export.weights import TensorFile

    merger = RouteMerger(merge / MERGE_FILE, read_merge_entry(merge, MERGE_FILE), weights)
    with TensorFile(folder / f"{route.name}.safetensors", weights) as file:
        for tensors in merger.each(route.table):
            for name, array in tensors.items():
                file.write(name, array)
            merger.rest()

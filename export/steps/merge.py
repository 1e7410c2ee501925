"""Base and experts as the runtime merges them, and the weight sets that a build merges ahead.

Both ends run `RouteMerger` on one file, so that a route's weight set holds the very bytes that the
runtime would merge for its table. A bundle may hold the base in 8 bits instead: its weight sets are
still those of the base as the checkpoint stores it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2edit.export.files import read_json, write_json
from a2edit.export.steps.calibrate import choose_eight, read_smooth
from a2edit.kernels.reference import quantise_rows, widened
from a2edit.runtime.engines.base import TensorSpec
from a2edit.runtime.manifest import MergeEntry
from a2edit.runtime.merge import BASE_LEVELS, RouteMerger
from a2edit.runtime.tensors import map_tensors

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route
    from a2edit.export.source import Source
    from a2edit.model.part_files import PartFiles
    from a2edit.model.peft_files import ExpertFiles

MERGE_FILE = "merge.safetensors"
PARTS = ("weight", "A", "B")  # of each linear in it
_ENTRY_FILE, _BASE_FILE = "merge.json", "base.json"


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
    write_json(folder / _ENTRY_FILE, {"scale": config.alpha / config.rank, "blocks": blocks})


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


def save_small_base(
    folder: Path, merge: Path, source: Source, traces: Path, lift: Sequence[str] = ()
) -> None:
    """merge.safetensors with as much of its base in 8 bits as the velocity bears, and base.json.

    `merge` is what `save_merge_source` wrote: the rest is as it is there. A matrix is in memory at
    a time.

    Raises:
        RequestError: a pattern of `lift` matches no routed linear.
    """
    from a2edit.export.weights import TensorFile

    about = choose_eight(source, traces, lift)
    mapped = map_tensors(merge / MERGE_FILE)
    stored = [TensorSpec(name, it.dtype, it.array.shape) for name, it in mapped.tensors.items()]
    eight = {f"{name}.weight" for name in about["eight"]}
    with TensorFile(folder / MERGE_FILE, small_specs(stored, eight)) as file:
        for name, tensor in mapped.tensors.items():
            if name in eight:
                levels, scales = quantise_rows(widened(tensor.array))
                file.write(name, levels)
                file.write(_scale_name(name), scales)
            else:
                file.write(name, tensor.array)
    entry = read_json(merge / _ENTRY_FILE)
    write_json(folder / _ENTRY_FILE, {**entry, "error": about["error"]})
    write_json(folder / _BASE_FILE, about)


def small_specs(specs: Sequence[TensorSpec], eight: Collection[str]) -> list[TensorSpec]:
    """What `merge_specs` says, with the weights in `eight` in 8 bits and their scales beside them.

    `eight` are names as in `specs`, "<linear>.weight".
    """
    kept = [spec for spec in specs if spec.name not in eight]
    for spec in specs:
        if spec.name in eight:
            scale = TensorSpec(_scale_name(spec.name), "float32", spec.shape[:1])
            kept += [TensorSpec(spec.name, BASE_LEVELS, spec.shape), scale]
    return kept


def _scale_name(weight: str) -> str:
    return f"{weight.removesuffix('.weight')}.base_scale"


def base_section(folder: Path) -> dict[str, Any]:
    """What the manifest says of a base in 8 bits, "merge_base" as in `BasePolicy.to_dict`.

    Nothing of one that is whole.
    """
    path = folder / _BASE_FILE
    return {"merge_base": read_json(path)} if path.is_file() else {}


def base_weights(file: Path) -> tuple[int, int]:
    """Of a merge.safetensors: how many weights its base has, and how many of them in 8 bits."""
    weights = [it for name, it in map_tensors(file).tensors.items() if name.endswith(".weight")]
    eight = sum(it.array.size for it in weights if it.dtype == BASE_LEVELS)
    return sum(it.array.size for it in weights), eight


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
    return MergeEntry(file=file, **read_json(folder / _ENTRY_FILE))


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

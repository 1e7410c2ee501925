"""Base and experts as the runtime merges them, and the weight sets that a build merges ahead.

Both ends run `RouteMerger` on one file, so that a route's weight set holds the very bytes that the
runtime would merge for its table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from a2edit.export.files import read_json, write_json
from a2edit.export.steps.calibrate import read_smooth
from a2edit.runtime.engines.base import TensorSpec
from a2edit.runtime.manifest import MergeEntry
from a2edit.runtime.merge import RouteMerger

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route
    from a2edit.export.source import Source

MERGE_FILE = "merge.safetensors"


def save_merge_source(folder: Path, source: Source, ranges: Path | None = None) -> None:
    """merge.safetensors, each tensor as narrow as its values allow, and merge.json.

    `ranges` is the ranges step's folder, for an int8 denoiser.
    """
    import torch
    from safetensors.torch import save_file as save_tensors

    from a2edit.export.weights import narrowest

    checkpoint = source.checkpoint
    bank, tensors = checkpoint.experts, {}
    for linear in checkpoint.linears:
        pair = bank.pair(linear.name)
        weight = checkpoint.transformer.get_parameter(f"{linear.name}.weight")
        for part, tensor in (("weight", weight), ("A", pair.A), ("B", pair.B)):
            tensors[f"{linear.name}.{part}"] = narrowest(tensor)
    smooth = read_smooth(ranges) if ranges else {}
    tensors |= {name: torch.from_numpy(array) for name, array in smooth.items()}
    save_tensors(dict(sorted(tensors.items())), folder / MERGE_FILE)
    blocks = {linear.name: linear.block for linear in checkpoint.linears}
    write_json(folder / "merge.json", {"scale": bank.scale, "blocks": blocks})


def read_merge_entry(folder: Path, file: str) -> MergeEntry:
    """What `save_merge_source` wrote, as the manifest holds it under the name `file`."""
    return MergeEntry(file=file, **read_json(folder / "merge.json"))


def save_weight_set(folder: Path, merge: Path, weights: Sequence[TensorSpec], route: Route) -> None:
    """<route>.safetensors: the routed weights that the denoiser's graph takes, for one table.

    fp32 and bf16: "<linear>.weight" fp32 [out, in] (a bf16 engine rounds it by itself). int8: of
    quantised linears, int8 [out, in] and "<linear>.scale" fp32 [out].
    """
    merger = RouteMerger(merge / MERGE_FILE, read_merge_entry(merge, MERGE_FILE), weights)
    tensors = merger.merge(route.table, route.name).tensors
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    save_file(arrays, folder / f"{route.name}.safetensors")

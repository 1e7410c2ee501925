"""Weight sets as safetensors: what all routes share, and one file of merged weights a route."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from a2edit.calibration.ranges import quantised_linears
from a2edit.kernels.reference import merge_weight, quantise_rows
from a2edit.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's bytes lie in a file."""

    offset: int
    bytes: int


def places(path: Path) -> dict[str, Place]:
    """Byte ranges of the tensors of a safetensors file, counted from the file's start."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    start = 8 + length
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            found[name] = Place(start + first, last - first)
    return found


def shared_parameters(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """What no route changes, "<module>.<parameter>" → tensor: not routed weights, not experts."""
    routed = {f"transformer.{linear.name}.weight" for linear in checkpoint.linears}
    found: dict[str, Tensor] = {}
    for part, module in checkpoint.modules().items():
        if part == "experts":
            continue
        for name, parameter in module.named_parameters():
            if f"{part}.{name}" not in routed:
                found[f"{part}.{name}"] = parameter
    return found


def save_shared(checkpoint: Checkpoint, path: Path) -> None:
    """Write the shared parameters, fp32, in an order that follows from their names alone."""
    arrays = {name: _array(tensor) for name, tensor in shared_parameters(checkpoint).items()}
    save_file(dict(sorted(arrays.items())), path)


def merged_weights(
    checkpoint: Checkpoint, table: NDArray[np.float32], precision: str
) -> dict[str, NDArray[np.generic]]:
    """Weights of every routed linear for a table [L, N], as the `dit` graph takes them.

    fp32 and bf16: "<linear>.weight" fp32 [out, in] (a bf16 engine rounds it by itself). int8: of
    `quantised_linears`, int8 [out, in] and "<linear>.scale" fp32 [out]. Always from the pristine
    base.
    """
    bank = checkpoint.experts
    quantised: set[str] = set()
    if precision == "int8":
        quantised = {linear.name for linear in quantised_linears(checkpoint.linears)}
    found: dict[str, NDArray[np.generic]] = {}
    for linear in checkpoint.linears:
        pair = bank.pair(linear.name)
        base = _array(checkpoint.transformer.get_parameter(f"{linear.name}.weight"))
        merged = merge_weight(base, _array(pair.A), _array(pair.B), table[linear.block], bank.scale)
        if linear.name in quantised:
            levels, scales = quantise_rows(merged)
            found[f"{linear.name}.weight"], found[f"{linear.name}.scale"] = levels, scales
        else:
            found[f"{linear.name}.weight"] = merged
    return found


def save_weights(weights: Mapping[str, NDArray[np.generic]], path: Path) -> None:
    """Write one route's weight set."""
    save_file({name: np.ascontiguousarray(weights[name]) for name in sorted(weights)}, path)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().contiguous().numpy()
    return array

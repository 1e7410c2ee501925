"""Parameters as safetensors: what all routes share, and how narrow the others may be stored."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

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


def narrowest(tensor: Tensor) -> Tensor:
    """A copy in the narrowest of fp16, bf16 and fp32 that holds every value exactly."""
    wide = tensor.detach().float().contiguous()
    for dtype in (torch.float16, torch.bfloat16):
        if torch.equal((small := wide.to(dtype)).float(), wide):
            return small
    return wide.clone()


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().contiguous().numpy()
    return array

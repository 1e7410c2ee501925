"""Parameters as safetensors: what all routes share, and how narrow the others may be stored."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a2edit.model.checkpoint import FOLDERS, Checkpoint
from a2edit.model.part_files import PartFiles


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


def shared_header(parameters: Mapping[str, Tensor]) -> bytes:
    """The head of the shared file: parameters as fp32, in the order of their names.

    The bytes are those that safetensors' own writer puts there, which wants all tensors at once.
    """
    entries: dict[str, object] = {}
    start = 0
    for name, parameter in sorted(parameters.items()):
        end = start + 4 * parameter.numel()
        offsets = [start, end]
        entries[name] = {"dtype": "F32", "shape": [*parameter.shape], "data_offsets": offsets}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def save_shared(outline: Checkpoint, folder: Path, path: Path) -> None:
    """Write the shared parameters of a checkpoint, fp32, one at a time.

    Args:
        outline: the checkpoint without its weights.
        folder: where its weights are.
        path: of the file to write.

    Raises:
        CheckpointError: a parameter is missing, damaged or of another shape.
    """
    shared = shared_parameters(outline)
    modules = outline.modules()
    parts = {name.partition(".")[0] for name in shared}
    files = {part: PartFiles.of(folder / FOLDERS[part], modules[part]) for part in sorted(parts)}
    with path.open("wb") as stream:
        stream.write(shared_header(shared))
        for name in sorted(shared):
            part, _, own = name.partition(".")
            stream.write(_array(files[part].read(own)).data)


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

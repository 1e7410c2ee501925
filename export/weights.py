"""Parameters as safetensors: written tensor by tensor, so that none but one need be in memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from a2edit.model.checkpoint import FOLDERS, Checkpoint
from a2edit.model.part_files import PartFiles
from a2edit.runtime.engines.base import Array, TensorSpec
from a2edit.runtime.tensors import DTYPES

# The order in which safetensors' own writer lays types out, so that each tensor is aligned.
_ORDER = (
    "int64",
    "float32",
    "int32",
    "bfloat16",
    "float16",
    "float8_e4m3fn",
    "int8",
    "uint8",
    "bool",
)
_STORED = {name: kind for kind, (name, _) in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's bytes lie in a file, and what they are (as in TensorSpec)."""

    offset: int
    bytes: int
    dtype: str


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
            found[name] = Place(start + first, last - first, DTYPES[entry["dtype"]][0])
    return found


def tensor_header(specs: Iterable[TensorSpec]) -> bytes:
    """The head of a safetensors file: wide types first, then in the order of names.

    The bytes are those that the library's own writer puts there, which wants all tensors at once.
    """
    entries: dict[str, object] = {}
    start = 0
    for spec in sorted(specs, key=lambda spec: (_ORDER.index(spec.dtype), spec.name)):
        end = start + spec.nbytes
        stored = _STORED[spec.dtype]
        entries[spec.name] = {
            "dtype": stored,
            "shape": [*spec.shape],
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


class TensorFile:
    """A safetensors file whose tensors are written in any order, one at a time.

    A context manager; the file is whole when it ends.
    """

    def __init__(self, path: Path, specs: Iterable[TensorSpec]) -> None:
        """Write the head of `path`; `specs` are all that it will hold."""
        self._specs = {spec.name: spec for spec in specs}
        self._left = set(self._specs)
        path.write_bytes(tensor_header(self._specs.values()))
        self._places = places(path)
        self._stream = path.open("r+b")

    def write(self, name: str, array: Array) -> None:
        """Put a tensor, as numpy holds its dtype (bfloat16 as uint16), in its place."""
        spec, place = self._specs[name], self._places[name]
        assert (array.shape, array.nbytes) == (spec.shape, spec.nbytes), f"{spec}: {array.shape}"
        self._left.remove(name)
        self._stream.seek(place.offset)
        self._stream.write(np.ascontiguousarray(array).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        assert kind or not self._left, f"not written: {sorted(self._left)[:3]}"


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


def save_shared(
    outline: Checkpoint,
    folder: Path,
    path: Path,
    without: Callable[[str], bool] = lambda _: False,
) -> None:
    """Write the shared parameters of a checkpoint one at a time, in the types that it stores.

    Args:
        outline: the checkpoint without its weights.
        folder: where its weights are.
        path: of the file to write.
        without: whether a parameter, by its shared name, is left out.

    Raises:
        CheckpointError: a parameter is missing, damaged or of another shape.
    """
    files = _part_files(outline, folder)
    specs = [spec for spec in shared_specs(outline, folder) if not without(spec.name)]
    with TensorFile(path, specs) as file:
        for name in sorted(spec.name for spec in specs):
            part, _, own = name.partition(".")
            file.write(name, array_of(files[part].read(own)))


def shared_specs(outline: Checkpoint, folder: Path) -> list[TensorSpec]:
    """What `save_shared` would write of all there is, from the heads of the checkpoint's files.

    Raises:
        CheckpointError: a parameter is missing, damaged or of another shape.
    """
    files, shared = _part_files(outline, folder), shared_parameters(outline)
    dtypes = {}
    for name in shared:
        part, _, own = name.partition(".")
        dtypes[name] = files[part].dtype(own)
    return parameter_specs(shared, dtypes)


def _part_files(outline: Checkpoint, folder: Path) -> dict[str, PartFiles]:
    modules = outline.modules()
    return {
        part: PartFiles.of(folder / FOLDERS[part], modules[part])
        for part in sorted(modules)
        if part != "experts"
    }


def parameter_specs(
    parameters: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype]
) -> list[TensorSpec]:
    """Parameters as a file holds them in `dtypes`."""
    return [
        TensorSpec(name, dtype_name(dtypes[name]), tuple(parameter.shape))
        for name, parameter in parameters.items()
    ]


def dtype_name(dtype: torch.dtype) -> str:
    """As TensorSpec names it."""
    return str(dtype).removeprefix("torch.")


def array_of(tensor: Tensor) -> Array:
    """A tensor as numpy holds it: bfloat16 as its bits, uint16."""
    plain = tensor.detach().contiguous()
    return (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()

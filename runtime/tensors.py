"""Safetensors files, mapped into memory: nothing is read before it is used.

The library's own numpy reader knows no bfloat16 and copies; the format is a header of JSON and
plain bytes (https://github.com/huggingface/safetensors#format).
"""

import mmap
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from a2edit.runtime.engines.base import Array
from a2edit.runtime.errors import BundleError
from a2edit.runtime.manifest import REBUILD, json_of

# Of each dtype in the file: its name, and numpy's type of its bytes, or of its bits.
DTYPES = {
    "F32": ("float32", "<f4"),
    "F16": ("float16", "<f2"),
    "BF16": ("bfloat16", "<u2"),
    "F8_E4M3": ("float8_e4m3fn", "u1"),
    "I8": ("int8", "i1"),
    "U8": ("uint8", "u1"),
    "I32": ("int32", "<i4"),
    "I64": ("int64", "<i8"),
    "BOOL": ("bool", "?"),
}
_MAX_HEADER = 100 * 2**20  # the format's own limit


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """One tensor of a file: `array` lies in the mapping, and keeps it open."""

    dtype: str  # as in TensorSpec
    array: Array


@dataclass(frozen=True, slots=True, eq=False)
class MappedTensors:
    """The tensors of a file by name, and the mapping that they lie in."""

    tensors: dict[str, StoredTensor]
    memory: mmap.mmap


def map_tensors(path: Path, *, writable: bool = False) -> MappedTensors:
    """The tensors of a safetensors file; raises BundleError where it is damaged.

    Processes that map one file share its pages. `writable` arrays can be written to, which
    changes the process's own copy alone.
    """
    access = mmap.ACCESS_COPY if writable else mmap.ACCESS_READ
    try:
        # the mapping outlives the file's handle, and ends with the last array that points into it
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=access)
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise BundleError(f"{str(path)!r} cannot be read ({error}): {REBUILD}") from None
    try:
        return MappedTensors(_tensors(np.frombuffer(memory, np.uint8)), memory)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"{str(path)!r} is no sound safetensors file ({error}): {REBUILD}"
        ) from None


def pick_tensors(files: Iterable[Path], names: Collection[str]) -> dict[str, Array]:
    """The tensors of these names, mapped; writable, as engines take pointers."""
    found: dict[str, Array] = {}
    for file in files:
        tensors = map_tensors(file, writable=True).tensors
        found |= {name: tensors[name].array for name in names if name in tensors}
    return found


def _tensors(data: Array) -> dict[str, StoredTensor]:
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    if data.size < 8 or start > min(data.size, _MAX_HEADER):
        raise ValueError(f"a header that ends at {start} of {data.size} bytes")
    header: dict[str, Any] = json_of(data[8:start].tobytes())
    header.pop("__metadata__", None)
    return {name: _tensor(name, entry, data[start:]) for name, entry in header.items()}


def _tensor(name: str, entry: dict[str, Any], data: Array) -> StoredTensor:
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"{name} has dtype {entry['dtype']}; known are {', '.join(DTYPES)}")
    dtype, kind = DTYPES[entry["dtype"]]
    shape, (first, last) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(isinstance(number, int) and number >= 0 for number in (*shape, first, last)):
        raise ValueError(f"{name} has shape {shape} at bytes {first} to {last}")
    if last > data.size or last - first != prod(shape) * np.dtype(kind).itemsize:
        raise ValueError(f"{name} lies at bytes {first} to {last} of {data.size}, {dtype}{shape}")
    return StoredTensor(dtype, data[first:last].view(kind).reshape(shape))

"""A route's weights from the base and its experts: ahead in a build, or on demand (SPEC §3)."""

import mmap
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from a2edit.kernels.reference import LEVELS, merge_weight, quantise_rows
from a2edit.runtime.engines.base import Array, TensorSpec, WeightSet
from a2edit.runtime.errors import BundleError
from a2edit.runtime.manifest import REBUILD, MergeEntry
from a2edit.runtime.tensors import StoredTensor, map_tensors

_COPIES = 4
_ALIGNMENT = 64  # bytes: of tensors in a set
FLOATS = ("float32", "float16", "bfloat16")
BASE_LEVELS = "int8"  # of a base in 8 bits, which has a scale a row
SCALES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True, eq=False)
class MergedLinear:
    """One routed linear: what it is merged from, and what the graph takes."""

    name: str
    block: int
    base: Array  # [out, in]
    base_scale: Array | None  # [out], if the base has 8 bits
    A: Array  # [N, r, in]
    B: Array  # [N, out, r]
    dtype: str  # of the graph's weight
    scale_dtype: str | None  # of its scales, if it has 8 bits
    smooth: Array | None  # [in], if it has 8 bits

    def merged(self, row: NDArray[np.float32], scale: float) -> dict[str, Array]:
        wide = "float32" if self.scale_dtype else self.dtype
        experts = self.A, self.B
        weight = merge_weight(self.base, *experts, row, scale, wide, self.base_scale)
        if self.scale_dtype is None:
            return {f"{self.name}.weight": weight}
        levels, scales = quantise_rows(weight, self.smooth, self.dtype, self.scale_dtype)
        return {f"{self.name}.weight": levels, f"{self.name}.scale": scales}


class RouteMerger:
    """Merges weight sets for one graph from weights/merge.safetensors, whose bytes never change.

    Every merge starts from the pristine base, so a table always gives the same bytes, whatever
    was merged before and however many threads there are. The build makes its weight sets by this
    class, so that they are what the runtime would merge. Thread-safe.
    """

    def __init__(
        self,
        source: Path,
        entry: MergeEntry,
        weights: Sequence[TensorSpec],
        threads: int | None = None,
    ) -> None:
        """Map `source` and compare it with `weights`, the routed weights of the dit graph.

        "<linear>.weight" is float32, float16, bfloat16; or int8 or float8_e4m3fn with
        "<linear>.scale" float32 or bfloat16 [out] beside it: for int8, of the merged weight times
        "<linear>.smooth" [in], if `source` has that (fp8 has no factors, and may share a bundle
        with int8). What `source` holds is floats, or of weights int8 with "<linear>.base_scale"
        float32 [out]. `threads` linears are merged at a time (`default_threads`). Raises
        BundleError where the file is damaged or does not fit the graph.
        """
        self.entry = entry
        self.threads = threads or default_threads()
        # the same threads for every merge: new ones would each have buffers of their own for BLAS
        self._pool = ThreadPoolExecutor(self.threads)
        mapped = map_tensors(source)
        self._memory = mapped.memory
        try:
            self.linears: Sequence[MergedLinear] = _linears(mapped.tensors, entry.blocks, weights)
        except BundleError as error:
            raise BundleError(
                f"{str(source)!r} cannot be merged from ({error}): {REBUILD}"
            ) from None
        self.shape = (max(entry.blocks.values()) + 1, len(self.linears[0].A))
        self.nbytes = sum(spec.nbytes for spec in weights)
        largest = max(linear.base.size for linear in self.linears)
        # fp32 copies of the matrices in work: what one is merged from, its steps to 8 bits
        self.peak_bytes = (
            len(self._memory) + 4 * _COPIES * min(self.threads, len(self.linears)) * largest
        )

    def merge(self, table: NDArray[np.floating], name: str) -> WeightSet:
        """The weight set `name` for a table R[L, N] (rows past the last block are not read).

        fp32 accumulate, cast once, quantise last (SPEC §11.1); only active experts are read.
        """
        tensors: dict[str, Array] = {}
        # in one piece: among what merging frees, sets would leave gaps that nothing fits into
        block, used = mmap.mmap(-1, self.nbytes + _ALIGNMENT * 2 * len(self.linears)), 0
        for merged in self.each(table):
            for key, array in merged.items():
                place = np.frombuffer(block, array.dtype, array.size, used).reshape(array.shape)
                place[...] = array
                tensors[key] = place
                used += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        return WeightSet(name, tensors)

    def each(self, table: NDArray[np.floating]) -> Iterator[dict[str, Array]]:
        """The tensors of `merge` linear by linear, in the order of the entry's blocks.

        At most `threads` linears lie in memory beside the one that the caller holds, so that a
        route larger than memory can be written to a file.
        """
        rows, scale = self.rows(table), self.entry.scale
        ahead: deque[Future[dict[str, Array]]] = deque()
        for linear in self.linears:
            if len(ahead) == self.threads:
                yield ahead.popleft().result()
            ahead.append(self._pool.submit(linear.merged, rows[linear.block], scale))
        while ahead:
            yield ahead.popleft().result()

    def rows(self, table: NDArray[np.floating]) -> NDArray[np.float32]:
        """What a merge reads of a table R[L, N]; raises ValueError for one of another shape."""
        blocks, experts = self.shape
        if table.ndim != 2 or table.shape[0] < blocks or table.shape[1] != experts:
            raise ValueError(f"a table is [{blocks}, {experts}], got {list(table.shape)}")
        return table[:blocks].astype(np.float32)

    def rest(self) -> None:
        """Leave the mapped source to the system's file cache, whence its pages come back when read.

        Called between the linears of `each`, the process holds no more of it than those in work.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)


def default_threads() -> int:
    """How many linears are merged at a time unless told otherwise: one a core, at most 8."""
    return min(8, os.cpu_count() or 1)


def _linears(
    stored: Mapping[str, StoredTensor], blocks: Mapping[str, int], weights: Sequence[TensorSpec]
) -> list[MergedLinear]:
    """What the file and the graph say of every linear, checked against each other."""
    wanted = {spec.name: spec for spec in weights}
    linears = []
    for name, block in blocks.items():
        spec = wanted.pop(f"{name}.weight", None)
        if spec is None:
            raise BundleError(f"the graph takes no {name}.weight")
        scale_dtype = _scale_dtype(wanted, spec, name) if spec.dtype in LEVELS else None
        base = _stored(stored, f"{name}.weight", (*FLOATS, BASE_LEVELS))
        A, B = (_stored(stored, f"{name}.{part}") for part in ("A", "B"))
        experts, rank = A.shape[:2] if A.ndim == 3 else (0, 0)
        shapes = spec.shape, (experts, rank, spec.shape[-1]), (experts, spec.shape[0], rank)
        if not experts or (base.shape, A.shape, B.shape) != shapes:
            found = ", ".join(str(list(array.shape)) for array in (base, A, B))
            raise BundleError(f"{name} has {found} as weight, A and B; the graph takes {spec}")
        low = _base_scale(stored, name, len(base)) if base.dtype == np.int8 else None
        takes = spec.dtype == "int8"
        smooth = _factors(stored, f"{name}.smooth", base.shape[1]) if takes else None
        linears.append(MergedLinear(name, block, base, low, A, B, spec.dtype, scale_dtype, smooth))
    if wanted:
        raise BundleError(f"the graph takes {next(iter(wanted))}, of which nothing is known")
    if len({len(linear.A) for linear in linears}) != 1:
        raise BundleError("its linears have different numbers of experts, or there are none")
    return linears


def _scale_dtype(wanted: dict[str, TensorSpec], weight: TensorSpec, name: str) -> str:
    scale = wanted.pop(f"{name}.scale", None)
    if scale is None:
        raise BundleError(f"the graph takes no {name}.scale beside {weight}")
    if scale.dtype not in SCALES or scale.shape != weight.shape[:1]:
        allowed = " or ".join(SCALES)
        raise BundleError(f"the graph takes {scale}; beside {weight} it must be {allowed}")
    return scale.dtype


def _base_scale(stored: Mapping[str, StoredTensor], name: str, out: int) -> Array:
    scale = _factors(stored, f"{name}.base_scale", out)
    if scale is None:
        raise BundleError(f"{name}.weight is int8, and it has no {name}.base_scale")
    return scale


def _factors(stored: Mapping[str, StoredTensor], name: str, size: int) -> Array | None:
    """Of rows or columns, where there are any."""
    found = stored.get(name)
    if found is not None and (found.dtype != "float32" or found.array.shape != (size,)):
        shape = list(found.array.shape)
        raise BundleError(f"{name} is {found.dtype} {shape}; it must be float32 [{size}]")
    return found.array if found else None


def _stored(
    stored: Mapping[str, StoredTensor], name: str, allowed: Sequence[str] = FLOATS
) -> Array:
    tensor = stored.get(name)
    if tensor is None:
        raise BundleError(f"it has no {name}")
    if tensor.dtype not in allowed:
        raise BundleError(f"{name} is {tensor.dtype}; it may be {', '.join(allowed)}")
    return tensor.array

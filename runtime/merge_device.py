"""Merging on a GPU: base and experts stay there, and a kernel writes weights where engines read."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.engines.base import Array, DeviceTensor, TensorSpec, WeightSet
from a2edit.runtime.engines.cuda import DeviceBuffer, Stream, processors
from a2edit.runtime.engines.kernel import Argument, CompiledKernel, float32, int32, pointer
from a2edit.runtime.merge import MergedLinear, RouteMerger
from a2edit.runtime.merge_kernels import MergeKernelEntry

_ALIGNMENT = 256  # bytes: of every tensor, as memory of its own would be
_ROW = 4  # float32 values: rows of a table begin at addresses that a kernel may rely on
_WORD = 4  # bytes, of the workspace
# Blocks wait for each other, and count on all of the GPU: those of two merges could wait for ever.
# Other processes' are kept apart by the driver, unless they share the GPU by MPS.
_ONE_MERGE = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Place:
    """Of tensors in one block of memory: where each begins, and how large they are together."""

    offsets: Mapping[str, int]
    nbytes: int

    @classmethod
    def of(cls, sizes: Mapping[str, int]) -> "_Place":
        offsets, end = {}, 0
        for name, nbytes in sizes.items():
            offsets[name] = end
            end += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        return cls(offsets, end)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Of what a merger keeps on the GPU.

    Attributes:
        kernels: by linear and phase; nothing for a linear that cannot be merged there.
        sources: base, experts and factors.
        spaces: workspaces, by linear.
        rows: bytes of a table.
    """

    kernels: Mapping[str, Mapping[str, MergeKernelEntry]]
    sources: _Place
    spaces: _Place
    rows: int

    @classmethod
    def of(cls, merger: RouteMerger, kernels: Sequence[MergeKernelEntry]) -> "_Layout":
        chosen = {linear.name: _fitting(linear, kernels) for linear in merger.linears}
        sources = {name: array.nbytes for name, array in _sources(merger.linears)}
        spaces = {
            linear.name: _WORD * _words(len(linear.base), chosen[linear.name])
            for linear in merger.linears
        }
        blocks, experts = merger.shape
        rows = _WORD * blocks * _padded(experts)
        return cls(chosen, _Place.of(sources), _Place.of(spaces), rows)

    @property
    def nbytes(self) -> int:
        return self.sources.nbytes + self.spaces.nbytes + self.rows


class DeviceMerger:
    """Merges weight sets as a RouteMerger does, on the GPU (docs/decisions/0021).

    Sums are in another order than on the processor: 8-bit values that lie near a tie may be one
    level away, others differ in their last bit. On one GPU a table gives the same bytes each time.
    `merge` is thread-safe; in a process one merge runs at a time.

    Attributes:
        nbytes: that base, experts and workspace take on the GPU, for as long as this is open.
    """

    def __init__(
        self,
        merger: RouteMerger,
        weights: Sequence[TensorSpec],
        kernels: Sequence[MergeKernelEntry],
        folder: Path,
    ) -> None:
        """Copy what `merger` merges from to the GPU, and load the kernels.

        Args:
            merger: maps and has checked the file.
            weights: the routed weights of the graph.
            kernels: that the bundle has for this GPU; `merges_all` of them.
            folder: of the bundle.

        Raises:
            TargetError: no GPU.
            DeviceMemoryError: it does not fit.
            EngineError: a kernel cannot be loaded.
        """
        self._merger, self._weights = merger, tuple(weights)
        self._layout = layout = _Layout.of(merger, kernels)
        self._to = _Place.of({spec.name: spec.nbytes for spec in self._weights})
        self.nbytes = layout.nbytes
        used = {it.file: it for chosen in layout.kernels.values() for it in chosen.values()}
        self._stream = Stream()
        self._buffers: list[DeviceBuffer] = []
        # first what may not run here, then what may not fit
        self._loaded = {
            file: CompiledKernel(folder / file, it.symbol, it.threads, it.shared)
            for file, it in used.items()
        }
        self._processors = processors()
        try:
            self._sources = self._buffer(layout.sources.nbytes)
            self._workspace = self._buffer(layout.spaces.nbytes)
            self._rows = self._buffer(layout.rows)
            for name, array in _sources(merger.linears):
                whole = np.ascontiguousarray(array)
                self._stream.upload(whole, self._sources, layout.sources.offsets[name])
            self._stream.wait()
        except BaseException:
            self.close()  # whoever keeps the error must not keep the memory
            raise
        merger.rest()

    def _buffer(self, nbytes: int) -> DeviceBuffer:
        self._buffers.append(DeviceBuffer(nbytes))
        return self._buffers[-1]

    def merge(self, table: NDArray[np.floating], name: str) -> WeightSet:
        """The weight set `name` for a table R[L, N], on the GPU (rows past the last block are not
        read); raises DeviceMemoryError where it has no room for one.
        """
        given = self._merger.rows(table)
        rows = np.zeros((len(given), _padded(given.shape[1])), np.float32)
        rows[:, : given.shape[1]] = given
        block = DeviceBuffer(self._to.nbytes)
        with _ONE_MERGE:
            self._stream.upload(rows, self._rows)
            self._stream.zero(self._workspace.address, self._workspace.nbytes)
            for linear in self._merger.linears:
                self._launch(linear, block)
            self._stream.wait()
        placed = {
            spec.name: DeviceTensor(
                block.address + self._to.offsets[spec.name], spec.dtype, spec.shape, block
            )
            for spec in self._weights
        }
        return WeightSet(name, {}, placed=placed)

    def close(self) -> None:
        """Free what lies on the GPU; sets that were merged stay for as long as they are used.

        Not while another thread merges.
        """
        for kernel in self._loaded.values():
            kernel.close()
        for buffer in self._buffers:
            buffer.close()
        self._stream.close()

    def _launch(self, linear: MergedLinear, block: DeviceBuffer) -> None:
        chosen = self._layout.kernels[linear.name]
        out, inner = linear.base.shape
        space = self._workspace.address + self._layout.spaces.offsets[linear.name]
        phases = ("cast",) if "cast" in chosen else ("maxima", "levels")
        if "one_pass" in chosen:
            entry = chosen["one_pass"]
            # a row's tiles wait for each other, so all must be able to run at once
            at_once = self._loaded[entry.file].resident * self._processors
            if _tiles(inner, entry.columns) <= at_once:
                phases = ("one_pass",)
        for phase in phases:
            entry = chosen[phase]
            if phase == "levels":
                self._stream.zero(space, _WORD)  # tiles are dealt anew, maxima stay
            blocks = _tiles(out, entry.rows) * _tiles(inner, entry.columns)
            arguments = self._arguments(linear, block, space)
            nothing = [pointer(0)] * entry.scratch
            self._loaded[entry.file].launch(self._stream, blocks, [*arguments, *nothing])

    def _arguments(self, linear: MergedLinear, block: DeviceBuffer, space: int) -> list[Argument]:
        """In the kernel's order; what it does not read is given an address that it may."""
        row = self._rows.address + _WORD * linear.block * _padded(self._merger.shape[1])

        def source(part: str) -> int:
            offset = self._layout.sources.offsets.get(f"{linear.name}.{part}")
            return row if offset is None else self._sources.address + offset

        def result(part: str) -> int:
            offset = self._to.offsets.get(f"{linear.name}.{part}")
            return row if offset is None else block.address + offset

        addresses = [
            *(source(part) for part in ("weight", "base_scale", "A", "B")),
            row,
            source("smooth"),
            *(result(part) for part in ("weight", "scale")),
            space,
        ]
        out, inner = linear.base.shape
        sizes = [int32(out), int32(inner), float32(self._merger.entry.scale)]
        return [*map(pointer, addresses), *sizes]


def merges_all(merger: RouteMerger, kernels: Sequence[MergeKernelEntry]) -> bool:
    """Whether `kernels` can merge every linear of `merger`."""
    return all(_fitting(linear, kernels) for linear in merger.linears)


def resident_bytes(merger: RouteMerger, kernels: Sequence[MergeKernelEntry]) -> int:
    """What a DeviceMerger of these takes on the GPU beside its sets: plain arithmetic."""
    return _Layout.of(merger, kernels).nbytes


def _sources(linears: Sequence[MergedLinear]) -> Iterator[tuple[str, Array]]:
    for linear in linears:
        parts = {
            "weight": linear.base,
            "base_scale": linear.base_scale,
            "A": linear.A,
            "B": linear.B,
            "smooth": linear.smooth,
        }
        for part, array in parts.items():
            if array is not None:
                yield f"{linear.name}.{part}", array


def _fitting(
    linear: MergedLinear, kernels: Sequence[MergeKernelEntry]
) -> dict[str, MergeKernelEntry]:
    """By phase; nothing where a phase that it needs is missing."""
    if linear.A.dtype != linear.B.dtype:
        return {}
    wanted = (
        *map(_stored_type, (linear.base, linear.A)),
        linear.dtype,
        linear.scale_dtype or "",
        linear.smooth is not None,
    )
    found = {
        entry.phase: entry
        for entry in kernels
        if wanted == (entry.base, entry.factors, entry.weight, entry.scale, entry.smooth)
    }
    needed = {"maxima", "levels"} if linear.scale_dtype else {"cast"}
    return found if needed <= found.keys() else {}


def _stored_type(array: Array) -> str:
    return "bfloat16" if array.dtype == np.uint16 else array.dtype.name


def _words(out: int, chosen: Mapping[str, MergeKernelEntry]) -> int:
    """Of the workspace: a ticket, a count a band of rows, a maximum a row."""
    rows = min((entry.rows for entry in chosen.values()), default=1)
    return 1 + _tiles(out, rows) + out


def _tiles(size: int, side: int) -> int:
    return -(-size // side)


def _padded(experts: int) -> int:
    return _tiles(experts, _ROW) * _ROW

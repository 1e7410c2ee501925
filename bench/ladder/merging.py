"""A whole route merged into 8 bits on a GPU, against the bytes that this has to move."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from a2edit.bench.ladder.floor import synchronise
from a2edit.bench.rows import Row, Setup
from a2edit.kernels.triton.merge_quantize import merge_quantize, workspace_size
from a2edit.model.checkpoint import Checkpoint

COPIED = 2**30  # bytes of the copy that bandwidth is taken from, on a GPU; elsewhere a MiB


@dataclass(frozen=True, slots=True)
class Merging:
    """What merging a route took.

    Attributes:
        seconds: of all linears, a round each.
        moved: bytes that a route's merging reads and writes at least.
        bandwidth: bytes a second of a plain copy, both ways counted.
    """

    seconds: Sequence[float]
    moved: int
    bandwidth: float

    def rows(self, setup: Setup) -> list[Row]:
        rates = [self.moved / it for it in self.seconds]
        shares = [100 * it / self.bandwidth for it in rates]
        return [
            setup.row("a route merged into 8 bits", "ms", [1e3 * it for it in self.seconds]),
            setup.row("a route merged into 8 bits, moved", "GB/s", [it / 1e9 for it in rates]),
            setup.row("a copy", "GB/s", [self.bandwidth / 1e9]),
            setup.row("a route merged into 8 bits / a copy", "%", shares),
        ]


class RouteMerger:
    """Merges tables of one checkpoint into the same buffers, as an engine has them bound.

    `merged` holds levels [out, in] (int8, or E4M3's bits in uint8) and scales [out] by linear.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, *, fp8: bool) -> None:
        self.bank, self.fp8 = checkpoint.experts, fp8
        self.base = {
            name: checkpoint.transformer.get_parameter(f"{name}.weight")
            for name in self.bank.linears
        }
        self.merged = {
            name: (
                torch.empty(weight.shape, dtype=torch.uint8 if fp8 else torch.int8, device=device),
                torch.empty(len(weight), device=device),
            )
            for name, weight in self.base.items()
        }
        most = max(workspace_size(len(weight)) for weight in self.base.values())
        self._space = torch.empty(most, dtype=torch.int32, device=device)
        self._processors = (
            torch.cuda.get_device_properties(device).multi_processor_count
            if device.type == "cuda"
            else 0
        )

    def merge(self, table: Tensor) -> None:
        """Gate weights [L, N], fp32, on the device; the bank is in the base's dtype."""
        for name, base in self.base.items():
            pair, (levels, scales) = self.bank.pair(name), self.merged[name]
            merge_quantize(
                base,
                pair.A,
                pair.B,
                table[self.bank.linears[name].block],
                levels,
                scales,
                self._space[: workspace_size(len(base))],
                scale=self.bank.scale,
                fp8=self.fp8,
                processors=self._processors,
            )

    def moved(self, table: Tensor) -> int:
        """Bytes: W⁰ and the factors of active experts once, levels and scales once."""
        total = 0
        for name, base in self.base.items():
            pair = self.bank.pair(name)
            active = int((table[self.bank.linears[name].block] != 0).sum())
            factors = pair.A[0].nbytes + pair.B[0].nbytes
            total += base.nbytes + active * factors + sum(it.nbytes for it in self.merged[name])
        return total


@torch.inference_mode()
def measure_merging(
    checkpoint: Checkpoint, table: Tensor, device: torch.device, rounds: int, *, fp8: bool
) -> Merging:
    """Merge the route of gate weights `table` [L, N] over and over."""
    table = table.float().contiguous()
    merger = RouteMerger(checkpoint, device, fp8=fp8)
    seconds = _seconds(lambda: merger.merge(table), device, rounds)
    source = torch.ones(
        COPIED if device.type == "cuda" else 2**20, dtype=torch.uint8, device=device
    )
    target = torch.empty_like(source)
    copies = _seconds(lambda: target.copy_(source), device, rounds)
    return Merging(seconds, merger.moved(table), 2 * source.nbytes / sorted(copies)[rounds // 2])


def _seconds(work: Callable[[], object], device: torch.device, rounds: int) -> list[float]:
    work()  # compiles
    found = []
    for _ in range(rounds):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        found.append(time.perf_counter() - start)
    return found

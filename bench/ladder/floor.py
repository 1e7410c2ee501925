"""The least that a step's arithmetic can take: its products at the rate of this device's largest.

Rates are measured, since data sheets give those of clocks that a card does not keep.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from a2edit.bench.ladder.flops import Flops

RUNS = 20


@dataclass(frozen=True, slots=True)
class Rates:
    """FLOP/s of one large matrix product.

    Attributes:
        plain: in the dtype of the transformer.
        narrow: in 8 bits, INT8 or E4M3 as this device has it; None where it has neither.
    """

    plain: float
    narrow: float | None

    def seconds(self, flops: Flops, *, narrow: bool) -> float:
        """The floor of a step; attention is never in 8 bits."""
        linear = self.narrow if narrow and self.narrow else self.plain
        return flops.linear / linear + flops.attention / self.plain


def measured_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """The median of `RUNS` products of square matrices."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    narrow = _narrow_product(device, side)
    return Rates(
        _rate(lambda: a @ b, side, device), _rate(narrow, side, device) if narrow else None
    )


def _narrow_product(device: torch.device, side: int) -> Callable[[], Tensor] | None:
    if device.type != "cuda":
        return None
    if torch.cuda.get_device_capability(device) >= (8, 9):
        a, b = (torch.randn(side, side, device=device).to(torch.float8_e4m3fn) for _ in range(2))
        rows = torch.ones(side, 1, device=device)
        columns = torch.ones(1, side, device=device)
        return lambda: torch._scaled_mm(  # noqa: SLF001 # it has no public name
            a, b.t(), scale_a=rows, scale_b=columns, out_dtype=torch.bfloat16
        )
    low, high = (
        torch.randint(-127, 128, (side, side), device=device, dtype=torch.int8) for _ in range(2)
    )
    return lambda: torch._int_mm(low, high)  # noqa: SLF001 # nor has this


def _rate(product: Callable[[], Tensor], side: int, device: torch.device) -> float:
    seconds = []
    for turn in range(-3, RUNS):
        synchronise(device)
        start = time.perf_counter()
        product()
        synchronise(device)
        if turn >= 0:
            seconds.append(time.perf_counter() - start)
    return 2 * side**3 / sorted(seconds)[len(seconds) // 2]


def synchronise(device: torch.device) -> None:
    """Wait for what was asked of a GPU; a processor has done it already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

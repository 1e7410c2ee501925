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
        narrow: in 8 bits, INT8 or E4M3 as this device has it.
    """

    plain: float
    narrow: float

    def seconds(self, flops: Flops, *, narrow: bool) -> float:
        """The floor of a step; attention is never in 8 bits."""
        linear = self.narrow if narrow else self.plain
        return flops.linear / linear + flops.attention / self.plain


def measured_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """The median of `RUNS` products of square matrices."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    narrow = _narrow_product(device, side)
    return Rates(_rate(lambda: a @ b, side, device), _rate(narrow, side, device))


def eight_bits_of(device: torch.device) -> torch.dtype:
    """What products in 8 bits are of there: E4M3 from sm89 on, else INT8."""
    modern = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)
    return torch.float8_e4m3fn if modern else torch.int8


def _narrow_product(device: torch.device, side: int) -> Callable[[], Tensor]:
    kind = eight_bits_of(device)
    a, b = (torch.randint(-99, 100, (side, side), device=device).to(kind) for _ in range(2))
    if kind == torch.int8:
        return lambda: torch._int_mm(a, b)  # noqa: SLF001 # it has no public name
    scales = torch.ones(side, 1, device=device)
    return lambda: torch._scaled_mm(  # noqa: SLF001 # nor has this
        a, b.t(), scale_a=scales, scale_b=scales.t(), out_dtype=torch.bfloat16
    )


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

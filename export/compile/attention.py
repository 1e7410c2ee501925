"""Which of torch's attention kernels a program is compiled with: the fastest that loses nothing.

`scaled_dot_product_attention` takes a kernel when a program is traced, by rules that know no times.
So they are measured first, on the program's own shapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

# MATH is plain products, whose scores take memory of the square of the tokens.
KERNELS = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)
RUNS = 9
# How much further than another kernel from attention in fp32 one may be and still lose nothing.
SLACK = 1.5


@dataclass(frozen=True, slots=True)
class Heads:
    """What an attention is of: q [B, heads, Lq, D], k and v [B, heads, Lk, D], and their dtype."""

    queries: tuple[int, ...]
    keys: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Timed:
    """A kernel, measured: the median in seconds, and its error relative to attention in fp32."""

    kernel: SDPBackend
    seconds: float
    error: float


def largest_attention(program: torch.export.ExportedProgram) -> Heads | None:
    """Of a program; None where it has none, or leaves its sizes open."""
    found = []
    for node in program.graph.nodes:
        if getattr(node.target, "_opname", "") == "scaled_dot_product_attention":
            q, k = (operand.meta["val"] for operand in node.args[:2])
            if all(isinstance(size, int) for size in (*q.shape, *k.shape)):
                found.append(Heads(tuple(q.shape), tuple(k.shape), q.dtype))
    return max(found, key=lambda it: it.queries[-2] * it.keys[-2], default=None)


@torch.no_grad()
def timed_kernels(
    heads: Heads, device: torch.device, kernels: Iterable[SDPBackend] = KERNELS
) -> list[Timed]:
    """Those that run these heads on this device; random normal values."""
    random = torch.Generator(device).manual_seed(0)
    q, k, v = (
        torch.randn(shape, generator=random, device=device).to(heads.dtype)
        for shape in (heads.queries, heads.keys, heads.keys)
    )
    # a head at a time: plain scores of all would be gigabytes
    exact = torch.cat(
        [
            torch.softmax(a.float() @ b.float().mT * a.shape[-1] ** -0.5, -1) @ c.float()
            for a, b, c in zip(q.split(1, 1), k.split(1, 1), v.split(1, 1), strict=True)
        ],
        1,
    )
    found = []
    for kernel in kernels:
        try:
            with sdpa_kernel(kernel):
                result = scaled_dot_product_attention(q, k, v)
                seconds = _seconds(lambda: scaled_dot_product_attention(q, k, v), device)
        except RuntimeError:  # not for this device, dtype or head
            continue
        found.append(Timed(kernel, seconds, float((result - exact).norm() / exact.norm())))
    return found


def fastest(timed: Iterable[Timed]) -> SDPBackend | None:
    """Of those that err about as little as the best of them; None where there are none."""
    timed = list(timed)
    least = min((it.error for it in timed), default=0.0)
    lossless = [it for it in timed if it.error <= SLACK * least + 1e-7]
    return min(lossless, key=lambda it: it.seconds).kernel if lossless else None


def fastest_attention(
    program: torch.export.ExportedProgram, device: torch.device
) -> AbstractContextManager[None]:
    """Inside, programs are traced with the kernel that is fastest for this one's attention."""
    heads = largest_attention(program)
    chosen = fastest(timed_kernels(heads, device)) if heads else None
    return sdpa_kernel(chosen) if chosen else nullcontext()


def _seconds(run: Callable[[], Tensor], device: torch.device) -> float:
    """The median of `RUNS`, after as many that warm up."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    found = []
    for _ in range(2 * RUNS):
        wait()
        start = time.perf_counter()
        run()
        wait()
        found.append(time.perf_counter() - start)
    return median(found[RUNS:])

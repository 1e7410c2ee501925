"""Where a step's time goes, by kind of kernel: products, attention, the rest, and gaps."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch.profiler import ProfilerActivity, profile

from a2edit.bench.ladder.steps import Denoiser

STEPS = 3
# By names that libraries give their kernels and operators; the first that fits.
_KINDS = {
    "attention": re.compile(r"flash|fmha|attention|sdpa|cudnn_generated", re.IGNORECASE),
    "linear": re.compile(
        r"gemm|nvjet|cutlass|cublas|addmm|_mm\b|::mm|matmul|splitk", re.IGNORECASE
    ),
}


def kind_of(kernel: str) -> str:
    """The class of a kernel or operator by its name."""
    found = (kind for kind, pattern in _KINDS.items() if pattern.search(kernel))
    return next(found, "norms and the rest")


def seconds_by_kind(denoiser: Denoiser) -> Mapping[str, float]:
    """Of one step; "gaps" is what no kernel ran in."""
    on_gpu = denoiser.device.type == "cuda"
    activities = [ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]
    steps = min(STEPS, denoiser.steps)
    _, seconds = denoiser.run(steps)  # without the profiler, which slows the host down
    with profile(activities=activities) as found:
        denoiser.run(steps)
    spent = dict.fromkeys((*_KINDS, "norms and the rest"), 0.0)
    for event in found.key_averages():
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        spent[kind_of(event.key)] += own / 1e6 / steps
    return {**spent, "gaps": max(seconds / steps - sum(spent.values()), 0.0)}

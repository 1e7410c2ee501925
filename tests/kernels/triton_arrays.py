"""Arrays of the Triton kernels' checks: between numpy and the device that the kernels run on."""

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from a2edit.kernels.reference import narrowed, widened

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
Floats = NDArray[np.float32]


def tensor(array: NDArray[Any]) -> torch.Tensor:
    """On the device; uint16 as the bfloat16 whose bits it holds."""
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(DEVICE)
    return torch.from_numpy(array).to(DEVICE)


def bits(values: torch.Tensor) -> NDArray[Any]:
    """Back in numpy; bfloat16 as its bits."""
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).cpu().numpy().view(np.uint16)
    return np.asarray(values.cpu().numpy())


def buffer(dtype: str, *shape: int) -> torch.Tensor:
    """Takes levels; holds values that no kernel leaves by chance."""
    kind = torch.int8 if dtype == "int8" else torch.uint8
    return torch.full(shape, 85, dtype=kind, device=DEVICE)


def floats(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def bfloat16(values: Floats) -> Floats:
    return widened(narrowed(values, "bfloat16"))


def nearly(found: NDArray[Any], expected: NDArray[Any], dtype: str, share: float) -> None:
    """At most one level apart, in at most `share` of the places."""
    if dtype == "int8":
        order = [array.astype(int) for array in (found, expected)]
    else:  # magnitudes are in the order of their bits
        order = [np.where(a & 0x80, -1, 1) * (a & 0x7F).astype(int) for a in (found, expected)]
    gap = np.abs(order[0] - order[1])
    worst = np.unravel_index(gap.argmax(), gap.shape)
    assert gap.max() <= 1, f"{worst}: {found[worst]} for {expected[worst]}"
    assert (gap > 0).mean() <= share

"""What quantised linears cost the velocity of one sample: 8 bits in torch, before any graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from a2edit.calibration.ranges import denoised
from a2edit.calibration.samples import EncodedSample
from a2edit.calibration.smoothing import STORED, InputRange
from a2edit.kernels.reference import dequantise_rows, quantise_rows
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import eject, inject, unmerged
from a2edit.model.graphs import DitGraph


class VelocityProbe:
    """One sample's true velocities at some steps, to compare quantised ones with.

    Both run at one gate table, the sample's own unless another is given: the truth with experts
    unmerged in every linear, what is compared with them merged, and rounded to 8 bits as a weight
    set holds them, in the quantised ones.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dit: DitGraph,
        sample: EncodedSample,
        seed: int,
        steps: Collection[int],
        table: NDArray[np.float32] | None = None,
    ) -> None:
        self._checkpoint, self._dit = checkpoint, dit
        self._table = torch.from_numpy(sample.table if table is None else table)
        loop = enumerate(denoised(checkpoint, dit, sample, seed, table))
        self._truths = {step: truth for step, truth in loop if step in steps}

    def error(self, ranges: Mapping[str, InputRange], steps: Collection[int]) -> float:
        """The largest ‖v − truth‖ / ‖truth‖ at `steps` with the linears in `ranges` quantised."""
        return self._error(quantised(self._checkpoint, self._table, ranges), steps)

    def base_error(self, names: Iterable[str], steps: Collection[int]) -> float:
        """The same with the base of the linears in `names` in 8 bits, and nothing else rounded."""
        return self._error(rounded_base(self._checkpoint, self._table, names), steps)

    @torch.no_grad()
    def _error(self, changed: AbstractContextManager[None], steps: Collection[int]) -> float:
        worst = 0.0
        with changed:
            for step in steps:
                inputs, truth = self._truths[step]
                found = self._dit(*inputs) - inputs[0]
                error = float((found - truth).norm() / truth.norm())
                worst = max(worst, math.inf if math.isnan(error) else error)
        return worst


@contextmanager
def quantised(
    checkpoint: Checkpoint, table: Tensor, ranges: Mapping[str, InputRange]
) -> Iterator[None]:
    """Run the transformer at a gate table [L, N] with the linears in `ranges` quantised.

    Of them one at a time is merged and rounded, while it runs: memory does not grow.
    """
    transformer, bank = checkpoint.transformer, checkpoint.experts
    others = [name for name in bank.linears if name not in ranges]
    handles = []
    for name, how in ranges.items():
        handles += _swapped(
            checkpoint, name, partial(_merged, checkpoint, table, how), how.quantised
        )
    inject(transformer, bank, others)
    bank.weights = table[None]
    try:
        yield
    finally:
        bank.weights = None
        eject(transformer, bank, others)
        for handle in handles:
            handle.remove()


@contextmanager
def rounded_base(checkpoint: Checkpoint, table: Tensor, names: Iterable[str]) -> Iterator[None]:
    """Run the transformer at a gate table [L, N], experts unmerged, with some bases in 8 bits.

    They are rounded as a bundle's merge.safetensors holds them, one at a time, while it runs.
    """
    handles = []
    for name in names:
        handles += _swapped(checkpoint, name, _rounded, lambda x: x)
    try:
        with unmerged(checkpoint.transformer, checkpoint.experts, table[None]):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _merged(
    checkpoint: Checkpoint, table: Tensor, how: InputRange, name: str, base: Tensor
) -> tuple[NDArray[Any], NDArray[Any]]:
    merged = checkpoint.experts.merged_weight(name, base, table).numpy()
    return quantise_rows(merged, how.smooth.numpy(), STORED[how.kind])


def _rounded(_: str, base: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    return quantise_rows(base.numpy())


def _swapped(
    checkpoint: Checkpoint,
    name: str,
    levels: Callable[[str, Tensor], tuple[NDArray[Any], NDArray[Any]]],
    reads: Callable[[Tensor], Tensor],
) -> list[RemovableHandle]:
    """Hooks that put levels in a linear's place while it runs, and take them out again.

    `levels` makes them from its name and its base in fp32; `reads` is done to its input.
    """
    module = checkpoint.transformer.get_submodule(name)
    assert isinstance(module, nn.Linear)
    base = checkpoint.transformer.get_parameter(f"{name}.weight")

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        weight = torch.from_numpy(dequantise_rows(*levels(name, base.detach().float())))
        module.weight = nn.Parameter(weight, requires_grad=False)
        return reads(inputs[0])

    def leave(module: nn.Module, *_: object) -> None:
        module.weight = base

    return [
        module.register_forward_pre_hook(enter),
        module.register_forward_hook(leave, always_call=True),
    ]

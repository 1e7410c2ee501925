"""What quantised linears cost the velocity of one sample: 8 bits in torch, before any graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from a2edit.calibration.ranges import denoised
from a2edit.calibration.samples import EncodedSample
from a2edit.calibration.smoothing import STORED, InputRange
from a2edit.kernels.reference import dequantise_rows, quantise_rows
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import eject, inject
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

    @torch.no_grad()
    def error(self, ranges: Mapping[str, InputRange], steps: Collection[int]) -> float:
        """The largest ‖v − truth‖ / ‖truth‖ at `steps` with the linears in `ranges` quantised."""
        worst = 0.0
        with quantised(self._checkpoint, self._table, ranges):
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
        module = transformer.get_submodule(name)
        assert isinstance(module, nn.Linear)
        enter, leave = _hooks(checkpoint, table, name, how)
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
    inject(transformer, bank, others)
    bank.weights = table[None]
    try:
        yield
    finally:
        bank.weights = None
        eject(transformer, bank, others)
        for handle in handles:
            handle.remove()


def _hooks(
    checkpoint: Checkpoint, table: Tensor, name: str, how: InputRange
) -> tuple[Callable[..., Tensor], Callable[..., None]]:
    """Put a linear's quantised weight in its place, and take it out again."""
    base = checkpoint.transformer.get_parameter(f"{name}.weight")

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        merged = checkpoint.experts.merged_weight(name, base.float(), table).numpy()
        levels = quantise_rows(merged, how.smooth.numpy(), STORED[how.kind])
        weight = torch.from_numpy(dequantise_rows(*levels))
        module.weight = nn.Parameter(weight, requires_grad=False)
        return how.quantised(inputs[0])

    def leave(module: nn.Module, *_: object) -> None:
        module.weight = base

    return enter, leave

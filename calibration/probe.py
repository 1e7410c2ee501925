"""What quantised linears cost the velocity of one sample: INT8 in torch, before any graph."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from a2edit.calibration.ranges import denoised, input_parts
from a2edit.calibration.samples import EncodedSample
from a2edit.calibration.smoothing import InputRange
from a2edit.kernels.reference import dequantise_rows, quantise_rows
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import merged_state
from a2edit.model.graphs import DitGraph


class VelocityProbe:
    """One sample's true velocities at some steps, to compare quantised ones with.

    The truth runs experts unmerged; what is compared runs the weights merged for the sample's own
    table, those of quantised linears rounded to int8 as a weight set holds them.
    """

    @torch.no_grad()
    def __init__(
        self,
        checkpoint: Checkpoint,
        dit: DitGraph,
        sample: EncodedSample,
        seed: int,
        steps: Collection[int],
    ) -> None:
        self._transformer, self._dit = checkpoint.transformer, dit
        inner = checkpoint.transformer.inner_dim
        self._parts = {linear.name: input_parts(linear, inner) for linear in checkpoint.linears}
        loop = enumerate(denoised(checkpoint, dit, sample, seed))
        self._truths = {step: truth for step, truth in loop if step in steps}
        table = torch.from_numpy(sample.table)
        self._merged = merged_state(checkpoint.transformer, checkpoint.experts, table)

    @torch.no_grad()
    def error(self, ranges: Mapping[str, InputRange], steps: Collection[int]) -> float:
        """The largest ‖v − truth‖ / ‖truth‖ at `steps` with the linears in `ranges` quantised."""
        state = {f"transformer.{name}": weight for name, weight in self._merged.items()}
        for name, how in ranges.items():
            weight = self._merged[f"{name}.weight"]
            levels = quantise_rows(weight.numpy(), how.smooth.numpy())
            state[f"transformer.{name}.weight"] = torch.from_numpy(dequantise_rows(*levels))
        worst = 0.0
        with self._quantised(ranges):
            for step in steps:
                inputs, truth = self._truths[step]
                found = torch.func.functional_call(self._dit, state, inputs) - inputs[0]
                error = float((found - truth).norm() / truth.norm())
                worst = max(worst, math.inf if math.isnan(error) else error)
        return worst

    @contextmanager
    def _quantised(self, ranges: Mapping[str, InputRange]) -> Iterator[None]:
        handles = []
        for name, how in ranges.items():

            def enter(
                _: nn.Module,
                inputs: tuple[Tensor, ...],
                how: InputRange = how,
                parts: tuple[int, ...] = self._parts[name],
            ) -> Tensor:
                return how.quantised(inputs[0], parts)

            module = self._transformer.get_submodule(name)
            handles.append(module.register_forward_pre_hook(enter))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

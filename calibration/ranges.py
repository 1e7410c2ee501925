"""Largest inputs of every routed linear, channel by channel, over samples and all timesteps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from a2edit.calibration.samples import EncodedSample
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import RoutedLinear, unmerged
from a2edit.model.graphs import DitGraph
from a2edit.runtime.sampler import noise, sigmas


def input_parts(linear: RoutedLinear, inner: int) -> tuple[int, ...]:
    """Widths of the pieces that a linear's input is joined from, each with a range of its own.

    A single block's proj_out reads attention and GELU side by side, which differ in range
    (SPEC §11.3); every other linear reads one thing.
    """
    single = linear.name.startswith("single_transformer_blocks.")
    if single and linear.name.endswith(".proj_out"):
        return inner, linear.in_features - inner
    return (linear.in_features,)


@contextmanager
def _recording(checkpoint: Checkpoint, peaks: Mapping[str, Tensor]) -> Iterator[None]:
    handles = []
    for name, peak in peaks.items():

        def record(_: nn.Module, inputs: tuple[Tensor, ...], peak: Tensor = peak) -> None:
            torch.maximum(peak, inputs[0].flatten(0, -2).abs().amax(0), out=peak)

        handles.append(checkpoint.transformer.get_submodule(name).register_forward_pre_hook(record))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def denoised(
    checkpoint: Checkpoint,
    dit: DitGraph,
    sample: EncodedSample,
    seed: int,
    table: NDArray[np.float32] | None = None,
) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """The denoising loop of one sample with unmerged experts.

    Runs at `table` [L, N]; at the sample's own gate weights when None.

    Yields:
        (the graph's inputs with Δσ = 1, so that it gives x + v; the velocity v), a step.
    """
    config = checkpoint.config
    weights = torch.from_numpy(sample.table if table is None else table)[None]
    shape = (1, config.image_tokens, int(checkpoint.transformer.config.out_channels))
    latents = torch.from_numpy(noise(seed, shape))
    context = [sample.feeds[key] for key in dit.input_names[1:5]]
    for high, low in pairwise(sigmas(config.steps, config.image_tokens).tolist()):
        scalars = (torch.tensor([x]) for x in (high, 1.0, config.guidance))
        inputs = (latents, *context, *scalars)
        with unmerged(checkpoint.transformer, checkpoint.experts, weights):
            velocity = dit(*inputs) - latents
        yield inputs, velocity
        latents = latents + (low - high) * velocity


def channel_peaks(
    checkpoint: Checkpoint, dit: DitGraph, samples: Sequence[EncodedSample]
) -> dict[str, Tensor]:
    """max|x| [in] of every routed linear's input, over whole denoising loops of the samples."""
    peaks = {linear.name: torch.zeros(linear.in_features) for linear in checkpoint.linears}
    with _recording(checkpoint, peaks):
        for seed, sample in enumerate(samples):
            for _ in denoised(checkpoint, dit, sample, seed):
                pass
    return peaks

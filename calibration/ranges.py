"""Largest inputs of every routed linear, over samples and all timesteps (SPEC §11.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from a2edit.calibration.samples import EncodedSample
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import RoutedLinear, unmerged
from a2edit.model.graphs import DitGraph
from a2edit.runtime.sampler import noise, sigmas

# The first block reads noise and pixels almost as they are embedded, and its feed-forward passes
# them on with outliers that one static range cannot hold: quantised alone, its two linears cost the
# embedded model's velocity 4.1 % and 2.7 %, no other linear more than 1.9 %.
_HIGH_PRECISION = re.compile(r"transformer_blocks\.0\.ff\.net\.(?:0\.proj|2)")


def quantised_linears(linears: Sequence[RoutedLinear]) -> list[RoutedLinear]:
    """The routed linears that INT8 takes; the others keep fp32 weights and activations."""
    return [linear for linear in linears if not _HIGH_PRECISION.fullmatch(linear.name)]


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
def _recording(
    checkpoint: Checkpoint, amax: dict[str, list[float]], parts: dict[str, tuple[int, ...]]
) -> Iterator[None]:
    handles = []
    for name, widths in parts.items():

        def record(
            _: nn.Module,
            inputs: tuple[Tensor, ...],
            name: str = name,
            widths: tuple[int, ...] = widths,
        ) -> None:
            peaks = [float(part.abs().max()) for part in inputs[0].split(widths, -1)]
            amax[name] = [max(pair) for pair in zip(amax[name], peaks, strict=True)]

        handles.append(checkpoint.transformer.get_submodule(name).register_forward_pre_hook(record))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def activation_ranges(
    checkpoint: Checkpoint, dit: DitGraph, samples: Sequence[EncodedSample]
) -> dict[str, tuple[float, ...]]:
    """max|x| of every quantised linear's input, one number a part (`input_parts`).

    Runs the whole denoising loop with unmerged experts at each sample's own gate weights.
    """
    config = checkpoint.config
    inner = checkpoint.transformer.inner_dim
    quantised = quantised_linears(checkpoint.linears)
    parts = {linear.name: input_parts(linear, inner) for linear in quantised}
    amax = {name: [0.0] * len(widths) for name, widths in parts.items()}
    levels = sigmas(config.steps, config.image_tokens)
    shape = (1, config.image_tokens, int(checkpoint.transformer.config.out_channels))
    for seed, sample in enumerate(samples):
        table = torch.from_numpy(sample.table)[None]
        latents = torch.from_numpy(noise(seed, shape))
        with (
            unmerged(checkpoint.transformer, checkpoint.experts, table),
            _recording(checkpoint, amax, parts),
        ):
            for high, low in pairwise(levels):
                scalars = [torch.tensor([float(x)]) for x in (high, low - high, config.guidance)]
                feeds = (sample.feeds[key] for key in dit.input_names[1:5])
                latents = dit(latents, *feeds, *scalars)
    return {name: tuple(peaks) for name, peaks in amax.items()}

"""What the routed linears read: which of them share a tensor, and how its values are spread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from a2edit.calibration.samples import EncodedSample
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import RoutedLinear, unmerged
from a2edit.model.graphs import DitGraph, ModulationGraph
from a2edit.runtime.sampler import ENCODED

# Bins a factor of two, and the powers of two from the lowest to the highest: what is smaller than
# the one or larger than the other is counted at the end.
_PER_OCTAVE, _LOWEST, _HIGHEST = 4, -12, 16
_BINS = _PER_OCTAVE * (_HIGHEST - _LOWEST)


def input_parts(linear: RoutedLinear, inner: int) -> tuple[int, ...]:
    """Widths of the pieces that a linear's input is joined from, which may differ in range.

    A single block's proj_out reads attention and GELU side by side, which differ in range
    (SPEC §11.3); every other linear reads one thing.
    """
    single = linear.name.startswith("single_transformer_blocks.")
    if single and linear.name.endswith(".proj_out"):
        return inner, linear.in_features - inner
    return (linear.in_features,)


def shared_inputs(linears: Iterable[RoutedLinear]) -> list[tuple[RoutedLinear, ...]]:
    """Linears that read one and the same tensor, side by side.

    They get one range and the same factors, so that an engine rounds the tensor once: q, k and v of
    a double block, those of its context, and q, k, v and proj_mlp of a single block.
    """
    found: dict[str, list[RoutedLinear]] = {}
    for linear in linears:
        block, _, leaf = linear.name.replace(".attn.", ".").rpartition(".")
        read = linear.name
        if leaf in {"to_q", "to_k", "to_v", "proj_mlp"}:
            read = f"{block}.norm"
        elif leaf in {"add_q_proj", "add_k_proj", "add_v_proj"}:
            read = f"{block}.norm_context"
        found.setdefault(read, []).append(linear)
    return [tuple(readers) for readers in found.values()]


@dataclass(frozen=True, slots=True, eq=False)
class InputSpread:
    """How large a linear's inputs are, channel by channel.

    Attributes:
        peaks: max|x| [in], fp32.
        counts: of |x|, in bins whose upper edges are `edges`: int32 [in, bins].
    """

    peaks: Tensor
    counts: Tensor

    @classmethod
    def empty(cls, channels: int) -> InputSpread:
        return cls(torch.zeros(channels), torch.zeros(channels, _BINS, dtype=torch.int32))

    @property
    def edges(self) -> Tensor:
        """[bins], fp32, four a factor of two."""
        return 2 ** (_LOWEST + (torch.arange(_BINS) + 1) / _PER_OCTAVE)

    def add(self, x: Tensor) -> None:
        """Count inputs [..., in]."""
        sizes = x.flatten(0, -2).abs()
        torch.maximum(self.peaks, sizes.amax(0), out=self.peaks)
        places = ((sizes.log2() - _LOWEST) * _PER_OCTAVE).clamp(0, _BINS - 1).long()
        places += torch.arange(sizes.shape[1]) * _BINS
        counted = torch.bincount(places.flatten(), minlength=self.counts.numel())
        self.counts.add_(counted.view_as(self.counts))

    def represented(self, smooth: Tensor, share: float) -> float:
        """The size up to which `share` of |x / smooth| lie.

        Args:
            smooth: [in].
            share: 0 to 1; at 1 the largest of all.

        Returns:
            the upper edge of the bin that the share ends in, at most the largest value.
        """
        largest = float((self.peaks / smooth).max())
        if share >= 1:
            return largest
        sizes, order = (self.edges / smooth[:, None]).flatten().sort()
        sums = self.counts.flatten()[order].cumsum(0)
        wanted = torch.tensor(share * float(sums[-1]), dtype=torch.float64)
        return min(largest, float(sizes[int(torch.searchsorted(sums.double(), wanted))]))

    def beyond(self, smooth: Tensor, peak: float) -> float:
        """The share of |x / smooth| that is larger than `peak`.

        A bin counts whole, if its lower edge is beyond.
        """
        lower = self.edges * 2 ** (-1 / _PER_OCTAVE) / smooth[:, None]
        return int(self.counts[lower >= peak].sum()) / max(1, int(self.counts.sum()))

    def split(self, smooth: Tensor, parts: Sequence[int]) -> Iterator[tuple[InputSpread, Tensor]]:
        """Each part's channels, and their factors."""
        pieces = (it.split(tuple(parts)) for it in (self.peaks, self.counts, smooth))
        for peaks, counts, factors in zip(*pieces, strict=True):
            yield InputSpread(peaks, counts), factors


@contextmanager
def recorded(checkpoint: Checkpoint) -> Iterator[dict[str, InputSpread]]:
    """Count every routed linear's inputs in whatever runs inside; readers of one tensor share.

    At full size that holds some 0.7 GB.
    """
    found: dict[str, InputSpread] = {}
    handles = []
    for readers in shared_inputs(checkpoint.linears):
        spread = InputSpread.empty(readers[0].in_features)
        found |= {linear.name: spread for linear in readers}

        def record(_: nn.Module, inputs: tuple[Tensor, ...], spread: InputSpread = spread) -> None:
            spread.add(inputs[0])

        module = checkpoint.transformer.get_submodule(readers[0].name)
        handles.append(module.register_forward_pre_hook(record))
    try:
        yield found
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
        (the graph's inputs with Δσ = 1, so that it gives x + v; the velocity v, of the whole
        transformer), a step.
    """
    config = checkpoint.config
    weights = torch.from_numpy(sample.table if table is None else table)[None]
    latents = sample.noise(seed, int(checkpoint.transformer.config.out_channels))
    modulation = ModulationGraph(checkpoint)
    conditioning, text, reference, pooled = (sample.feeds[key] for key in ENCODED)
    for high, low in pairwise(sample.levels(config.steps).tolist()):
        sigma, guidance = torch.tensor([high]), torch.tensor([config.guidance])
        given = modulation(pooled, sigma, guidance)
        inputs = (latents, conditioning, text, reference, given, torch.ones(1))
        with unmerged(checkpoint.transformer, checkpoint.experts, weights):
            velocity = dit.velocity(*inputs[:4], pooled, sigma, guidance)
        yield inputs, velocity
        latents = latents + (low - high) * velocity


def input_spreads(
    checkpoint: Checkpoint, dit: DitGraph, samples: Sequence[EncodedSample]
) -> dict[str, InputSpread]:
    """Every routed linear's inputs over whole denoising loops at the samples' own tables."""
    with recorded(checkpoint) as spreads:
        for seed, sample in enumerate(samples):
            for _ in denoised(checkpoint, dit, sample, seed):
                pass
    return spreads

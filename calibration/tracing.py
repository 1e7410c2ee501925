"""Tracing a calibration set: gate tables, inputs of the routed linears, sensitivities of blocks.

The denoising loop runs once a sample, with the experts unmerged at the sample's own gate weights
and in as many steps as there are timestep bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from a2edit.calibration.samples import EncodedSample
from a2edit.calibration.traces import FloatArray, Traces
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import MixtureLinear, unmerged
from a2edit.model.graphs import DitGraph
from a2edit.runtime.sampler import ENCODED, sigmas

BINS = 4


@torch.no_grad()
def trace(
    checkpoint: Checkpoint,
    dit: DitGraph,
    samples: Iterable[EncodedSample],
    *,
    first: int = 0,
    deep: int,
    bins: int = BINS,
    tick: Callable[[int], None] = lambda _: None,
) -> Traces:
    """Trace samples, one at a time; memory does not grow with their number but by their tables.

    Args:
        checkpoint: whose experts run unmerged.
        dit: its denoiser.
        samples: encoded; an iterator will do.
        first: place of the first of them in the calibration set: its noise's seed.
        deep: run the denoiser on that many; of the others, only the gate tables are kept.
        bins: T.
        tick: told how many samples are done.
    """
    sums, before = _Sums(checkpoint, dit, bins), None
    for place, sample in enumerate(samples):
        sums.take(sample)
        if place < deep:
            sums.run(sample, first + place, before)
        before = sample
        tick(place + 1)
    return sums.traces()


def velocity_of(
    dit: DitGraph, sample: EncodedSample, latents: Tensor, sigma: float, guidance: float
) -> Tensor:
    """The denoiser's output for a sample, [1, h, w, 64], with whatever experts are set."""
    feeds = (sample.feeds[key] for key in ENCODED)
    scalars = {"sigma": torch.tensor([sigma]), "guidance": torch.tensor([guidance])}
    return dit.velocity(latents, *feeds, **scalars)


class _Sums:
    """The sums of `Traces` while they grow."""

    def __init__(self, checkpoint: Checkpoint, dit: DitGraph, bins: int) -> None:
        self.checkpoint, self.dit, self.config = checkpoint, dit, checkpoint.config
        self.levels = sigmas(bins, self.config.image_tokens)
        self.blocks, self.experts = checkpoint.blocks, checkpoint.experts.experts
        self.tables: list[FloatArray] = []
        self.categories: list[str] = []
        self.gaps: list[FloatArray] = []
        self.changes: list[list[float]] = []
        self.rows: dict[str, _Row] = {}

    def take(self, sample: EncodedSample) -> None:
        self.tables.append(sample.table)
        self.categories.append(sample.category)

    def run(self, sample: EncodedSample, place: int, before: EncodedSample | None) -> None:
        """The loop at the sample's own table, and once the table of the sample before it."""
        row = self.rows.setdefault(sample.category, _Row(self.checkpoint, len(self.levels) - 1))
        table = torch.from_numpy(sample.table)
        transformer, bank = self.checkpoint.transformer, self.checkpoint.experts
        latents = sample.noise(place, int(transformer.config.out_channels))
        with unmerged(transformer, bank, table[None]):
            for step, (high, low) in enumerate(pairwise(self.levels.tolist())):
                with row.recording(transformer, step):
                    velocity = velocity_of(self.dit, sample, latents, high, self.config.guidance)
                row.velocity[step] += _square(velocity)
                row.forwards[step] += 1
                if before is not None and step == place % (len(self.levels) - 1):
                    other = torch.from_numpy(before.table)
                    self.gaps.append((other - table).numpy())
                    self.changes.append(self._changes(sample, latents, high, velocity, other))
                    bank.weights = table[None]
                latents = latents + (low - high) * velocity

    def _changes(
        self, sample: EncodedSample, latents: Tensor, sigma: float, truth: Tensor, other: Tensor
    ) -> list[float]:
        """‖v' − v‖² under `other` [L, N] in one block after the other, and in all."""
        bank, own = self.checkpoint.experts, torch.from_numpy(sample.table)
        found = []
        for block in range(self.blocks + 1):
            swapped = other.clone()
            if block < self.blocks:
                swapped = own.clone()
                swapped[block] = other[block]
            bank.weights = swapped[None]
            velocity = velocity_of(self.dit, sample, latents, sigma, self.config.guidance)
            found.append(_square(velocity - truth))
        return found

    def traces(self) -> Traces:
        kinds, bins = tuple(sorted(self.rows)), len(self.levels) - 1
        rows = [self.rows[kind] for kind in kinds]

        def stacked(sums: Sequence[NDArray[np.float64]], *shape: int) -> FloatArray:
            return np.array(sums, np.float32).reshape(len(sums), *shape)

        linears = {linear.name: linear.in_features for linear in self.checkpoint.linears}
        shape = (self.blocks, self.experts)
        return Traces(
            tables=np.array(self.tables, np.float32).reshape(-1, *shape),
            categories=tuple(self.categories),
            kinds=kinds,
            sigmas=self.levels[:-1],
            forwards=stacked([row.forwards for row in rows], bins),
            moments={
                name: stacked([row.moments[name] for row in rows], bins, width)
                for name, width in linears.items()
            },
            energies={
                name: stacked([row.energies[name] for row in rows], bins) for name in linears
            },
            velocity=stacked([row.velocity for row in rows], bins),
            gaps=np.array(self.gaps, np.float32).reshape(-1, *shape),
            changes=np.array(self.changes, np.float32).reshape(-1, self.blocks + 1),
        )


class _Row:
    """One category's sums, by bin."""

    def __init__(self, checkpoint: Checkpoint, bins: int) -> None:
        self.forwards, self.velocity = np.zeros(bins), np.zeros(bins)
        linears = checkpoint.linears
        self.moments = {one.name: np.zeros((bins, one.in_features)) for one in linears}
        self.energies = {one.name: np.zeros(bins) for one in linears}

    @contextmanager
    def recording(self, transformer: nn.Module, step: int) -> Iterator[None]:
        """Add what the routed linears see while the transformer runs."""
        handles = []
        for name in self.moments:

            def record(
                _: nn.Module, given: tuple[Tensor, ...], y: Tensor, name: str = name
            ) -> None:
                self.moments[name][step] += given[0].flatten(0, -2).square().sum(0).double().numpy()
                self.energies[name][step] += _square(y)

            mixture = transformer.get_submodule(name)
            assert isinstance(mixture, MixtureLinear)
            handles.append(mixture.base.register_forward_hook(record))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _square(x: Tensor) -> float:
    return float(x.double().square().sum())

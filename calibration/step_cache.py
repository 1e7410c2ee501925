"""What a step costs that takes the denoiser's tail from an earlier one, on calibration requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a2edit.calibration.samples import EncodedSample
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import unmerged
from a2edit.model.graphs import ModulationGraph
from a2edit.model.step_cache import DitHeadGraph, DitTailGraph, euler, relative_change
from a2edit.runtime.sampler import ENCODED

# How many steps apart, at most, a step and the one whose tail it takes are compared: and so how
# many may be skipped in a row. Their residuals are in memory.
WINDOW = 4
# Of the comparisons, the share whose error the slope is not below.
COVERED = 0.95


@dataclass(frozen=True, slots=True)
class SkipCost:
    """One step that takes the tail of an earlier one.

    Attributes:
        step: its place in the loop.
        apart: how many steps earlier the other one is.
        change: of the first block's residual between the two, relative, L1.
        error: of the velocity, ‖skipped − whole‖ / ‖whole‖.
    """

    step: int
    apart: int
    change: float
    error: float


@torch.no_grad()
def skip_costs(
    checkpoint: Checkpoint,
    head: DitHeadGraph,
    tail: DitTailGraph,
    sample: EncodedSample,
    seed: int,
    table: NDArray[np.float32],
) -> Iterator[SkipCost]:
    """Of one sample's loop with its experts unmerged at `table` [L, N].

    Every step is whole. The first and the last are no candidates, as in `runtime.step_cache`.
    """
    config, net = checkpoint.config, checkpoint.transformer
    latents = sample.noise(seed, int(net.config.out_channels))
    *tokens, pooled = (sample.feeds[key] for key in ENCODED)
    levels = sample.levels(config.steps).tolist()
    one, guidance = torch.ones(1), torch.tensor([config.guidance])
    modulation = ModulationGraph(checkpoint)
    kept: deque[tuple[Tensor, Tensor]] = deque(maxlen=WINDOW)
    nothing = torch.zeros(1, *sample.grid, int(net.inner_dim))
    with unmerged(net, checkpoint.experts, torch.from_numpy(table)[None]):
        for step, (high, low) in enumerate(pairwise(levels)):
            given = modulation(pooled, torch.tensor([high]), guidance)
            hidden, text, first, _, _ = head(latents, *tokens, given, one, nothing, nothing)
            whole, residual = tail(latents, hidden, text, given, one)
            velocity = whole - latents
            if step < config.steps - 1:
                for apart, (previous, added) in enumerate(reversed(kept), 1):
                    skipped = euler(net, latents, hidden + added, given, one) - latents
                    error = float((skipped - velocity).norm() / velocity.norm())
                    yield SkipCost(step, apart, float(relative_change(first, previous)), error)
            kept.append((first, residual))
            latents = latents + (low - high) * velocity


def slope(costs: Iterable[SkipCost]) -> float:
    """The error over the change, such that `COVERED` of the steps err no more; to four digits.

    The two are proportional over whole loops and for steps any number apart, so that one number
    tells what a change costs, whatever the number of steps.
    """
    ratios = [cost.error / cost.change for cost in costs if cost.change > 0]
    return float(f"{np.quantile(ratios, COVERED, method='higher'):.4g}")

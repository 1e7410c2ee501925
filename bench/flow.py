"""Flow-matching loss of checkpoints on the same fresh samples and noise, by kind of mask.

Edits differ by their noise more than by a percent of training: what a stage brought shows in the
loss, paired sample by sample, long before a picture shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import eject, inject
from a2edit.training.data import Batch, PairFactory
from a2edit.training.datasets.source import SampleSource
from a2edit.training.flow import FlowModel, NoiseLevels
from a2edit.training.masks import MaskMix
from a2edit.training.scenes import Split

MASKS = MappingProxyType(
    {name: MaskMix(**{name: 1.0}) for name in ("fine", "rough", "box", "free")}
)
# Far from the indices that training, sheets, calibration and the experts' bench draw from.
_FIRST_INDEX = 1 << 39
BATCH = 8


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """What is drawn.

    Attributes:
        samples: of every kind of mask, the categories in turn.
        split: kinds of objects that were trained on, or those held out.
        sides: windows of tokens around the mask, as training takes them; empty: the whole canvas.
        half: the transformer under bf16 autocast.
    """

    samples: int = 96
    split: Split = "train"
    sides: tuple[int, ...] = ()
    half: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """Of one model's loss against another's on the same samples, as shares of the other's.

    Attributes:
        mean: below 0, the model is the better one.
        error: standard error of the mean.
    """

    mean: float
    error: float


def flow_losses(
    checkpoint: Checkpoint,
    plan: FlowPlan,
    source: SampleSource | None = None,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, NDArray[np.float64]]:
    """Loss of every batch of 8, by kind of mask: [samples / 8].

    The gate and the experts run, as they do in an edit.

    Args:
        checkpoint: in memory, its experts beside the base.
        plan: how many samples, of which kinds.
        source: of samples; the drawn scenes by default.
        progress: told of every batch.
    """
    factory = PairFactory(checkpoint, source)
    flow = FlowModel(checkpoint, NoiseLevels(), torch.device("cpu"))
    found: dict[str, list[float]] = {name: [] for name in MASKS}
    inject(checkpoint.transformer, checkpoint.experts)
    try:
        for start in range(0, plan.samples, BATCH):
            for name, mix in MASKS.items():
                batch, _ = fresh_batch(
                    factory, mix, _FIRST_INDEX + start, plan.split, sides=plan.sides
                )
                loss = loss_of(flow, batch, start, half=plan.half)
                found[name].append(loss)
                progress()
    finally:
        checkpoint.experts.weights = None
        eject(checkpoint.transformer, checkpoint.experts)
    return {name: np.array(values) for name, values in found.items()}


def fresh_batch(
    factory: PairFactory,
    mix: MaskMix,
    first: int,
    split: Split,
    *,
    sides: tuple[int, ...],
    category: str | None = None,
) -> tuple[Batch, list[str]]:
    """Eight samples from index `first` on and what they show: one category, or all in turn."""
    names = factory.source.categories
    examples = [
        factory.example(place, mix, split, sides, category or names[place % len(names)])
        for place in range(first, first + BATCH)
    ]
    return factory.batch(examples), [example.sample.category for example in examples]


def loss_of(
    flow: FlowModel, batch: Batch, seed: int, *, half: bool, switched_off: int | None = None
) -> float:
    """The loss with injected experts, on the noise that belongs to `seed`."""
    torch.manual_seed(seed)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss, _ = flow.loss(batch, experts=True, switched_off=switched_off)
    return loss.item()


def change(losses: Sequence[float] | NDArray[np.float64],
           first: Sequence[float] | NDArray[np.float64]) -> Change:  # fmt: skip
    """How losses differ from those of the first model, batch by batch."""
    shares = (np.asarray(losses) - np.asarray(first)) / np.mean(first)
    return Change(float(shares.mean()), float(shares.std(ddof=1) / np.sqrt(len(shares))))

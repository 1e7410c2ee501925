"""What is trained, in which order, on which masks and samples, for how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from a2edit.runtime.errors import RequestError
from a2edit.training.masks import MaskMix

Trains = Literal["autoencoder", "base", "experts"]
ExpertsOn = Literal["all", "ffn", "attention", "none"]
Optimiser = Literal["adamw", "muon"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One leg of a training run.

    Attributes:
        name: of the stage, in the log and on the command line.
        trains: "autoencoder" (the deblocking decoder), "base" (transformer and encoders), or
            "experts" (LoRA experts and gate on a frozen base).
        steps, batch: optimiser steps and samples a step, over all processes.
        rate: learning rate at its height.
        warmup: steps of linear rise.
        decay: share of the steps, at the end, over which the rate falls linearly to zero.
        masks: what the user's mask looks like.
        sides: window sides in tokens, smallest that fits is taken; empty: always the whole canvas.
        balance: weight of the term that keeps the gate's mean table even (0: off, as the paper).
        gate_rate: the gate's learning rate, as a share of the experts'.
        sharpen: weight of the term that makes every sample's own table uneven (0: off).
        semantic: of a base stage: weight of the categories' cross-entropy, read off the encoders'
            tokens by heads that are thrown away (0: off).
        experts_on: routed linears whose experts learn; "none" skips the stage, which leaves the
            base alone.
        without: categories that no sample is drawn from.
        per_category_batches: every batch shows one category.
        optimiser: "adamw", or "muon" for the matrices inside of blocks and AdamW for the rest.
    """

    name: str
    trains: Trains
    steps: int
    batch: int
    rate: float
    warmup: int
    decay: float
    masks: MaskMix
    sides: tuple[int, ...] = ()
    balance: float = 0.0
    gate_rate: float = 1.0
    sharpen: float = 0.0
    semantic: float = 0.0
    experts_on: ExpertsOn = "all"
    without: tuple[str, ...] = ()
    per_category_batches: bool = False
    optimiser: Optimiser = "adamw"

    def __post_init__(self) -> None:
        choices = (("trains", Trains), ("experts_on", ExpertsOn), ("optimiser", Optimiser))
        for field, kind in choices:
            allowed = get_args(kind)
            if (value := getattr(self, field)) not in allowed:
                raise RequestError(
                    f"stage {self.name}: {field} is {value!r}; allowed: {', '.join(allowed)}"
                )
        for field, least in (
            ("steps", 0),
            ("batch", 1),
            ("warmup", 0),
            ("balance", 0),
            ("gate_rate", 0),
        ):
            if (value := getattr(self, field)) < least:
                raise RequestError(
                    f"stage {self.name}: {field} is {value}; it must be at least {least}"
                )
        if self.semantic and self.trains != "base":
            raise RequestError(
                f"stage {self.name}: semantic is {self.semantic}, but only stages that train the "
                "base have encoders to teach; leave it out"
            )
        if not self.rate > 0 or not 0 <= self.decay <= 1:
            raise RequestError(
                f"stage {self.name}: rate is {self.rate}, decay {self.decay}; "
                "the rate must be above 0, the decay between 0 and 1"
            )

    def rate_at(self, step: int) -> float:
        """Learning rate of step 0, 1, …: a linear rise, a plateau, a linear fall to zero."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        tail = self.decay * self.steps
        fall = min(1.0, (self.steps - step) / tail) if tail else 1.0
        return self.rate * rise * fall


FINE = MaskMix(fine=1.0)
ROUGH = MaskMix(rough=1.0)
BOX = MaskMix(box=1.0)
# The base must know every kind of mask before the experts refine it.
EVERY = MaskMix(fine=0.2, rough=0.4, box=0.25, free=0.15)

# Sides in tokens: the smallest that holds the mask and one token around it is taken.
WINDOWS = (8, 9, 10, 11, 12, 13, 14)

# Sized for two CPU cores: some 95,000 samples. The experts' stages keep the paper's proportions,
# 3000 : 1500 : 1500 (SPEC §8); the last one is ours (decision 7).
MINI_STAGES: tuple[Stage, ...] = (
    Stage("autoencoder", "autoencoder", 400, 4, 2e-3, 20, 0.6, FINE),
    Stage("base", "base", 8500, 8, 1e-3, 100, 0.0, EVERY, WINDOWS,
          semantic=0.1, optimiser="muon"),
    Stage("base-decay", "base", 2500, 8, 1e-3, 0, 1.0, EVERY, WINDOWS,
          semantic=0.1, optimiser="muon"),
    Stage("fine", "experts", 200, 8, 1.5e-3, 10, 0.0, FINE, WINDOWS, gate_rate=0.01),
    Stage("rough", "experts", 100, 8, 1e-3, 0, 0.0, ROUGH, WINDOWS, gate_rate=0.01),
    Stage("box", "experts", 100, 8, 6e-4, 0, 1.0, BOX, WINDOWS, gate_rate=0.01),
    Stage("mixed", "experts", 200, 8, 1e-3, 5, 1.0, EVERY, WINDOWS, gate_rate=0.01),
)  # fmt: skip

# MATS as published (SPEC §1, §8). The paper gives no learning rate: 1e-4 is what LoRA on Flux is
# commonly trained with.
PAPER_STAGES: tuple[Stage, ...] = (
    Stage("fine", "experts", 3000, 8, 1e-4, 100, 0.0, FINE),
    Stage("rough", "experts", 1500, 8, 1e-4, 0, 0.0, ROUGH),
    Stage("box", "experts", 1500, 8, 1e-4, 0, 1.0, BOX),
)


def stages_left(stages: tuple[Stage, ...], done: dict[str, int]) -> Iterator[tuple[Stage, int]]:
    """Stages with the steps they still need."""
    for stage in stages:
        if (left := stage.steps - done.get(stage.name, 0)) > 0:
            yield stage, left

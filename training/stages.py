"""What is trained, in which order, on which masks, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from a2edit.training.masks import MaskMix


@dataclass(frozen=True, slots=True)
class Stage:
    """One leg of a training run.

    Attributes:
        name: of the stage, in the log and on the command line.
        trains: "autoencoder" (the deblocking decoder), "base" (transformer and encoders), or
            "experts" (LoRA experts and gate on a frozen base).
        steps, batch: optimiser steps and samples a step.
        rate: learning rate at its height.
        warmup: steps of linear rise.
        decay: share of the steps, at the end, over which the rate falls linearly to zero.
        masks: what the user's mask looks like.
        sides: window sides in tokens, smallest that fits is taken; empty: always the whole canvas.
        balance: weight of the term that keeps the gate's mean table even (0: off, as the paper).
    """

    name: str
    trains: Literal["autoencoder", "base", "experts"]
    steps: int
    batch: int
    rate: float
    warmup: int
    decay: float
    masks: MaskMix
    sides: tuple[int, ...] = ()
    balance: float = 0.0


FINE = MaskMix(fine=1.0)
ROUGH = MaskMix(rough=1.0)
BOX = MaskMix(box=1.0)
# The base must know every kind of mask before the experts refine it.
EVERY = MaskMix(fine=0.2, rough=0.4, box=0.25, free=0.15)

_WINDOWS = (7, 8, 9, 10, 12)

# Sized for two CPU cores: about an hour and a half when they are free. The experts' stages keep
# the paper's proportions, 3000 : 1500 : 1500 (SPEC §8).
MINI_STAGES: tuple[Stage, ...] = (
    Stage("autoencoder", "autoencoder", 400, 4, 2e-3, 20, 0.6, FINE),
    Stage("base", "base", 1000, 12, 1e-3, 100, 0.0, EVERY, _WINDOWS),
    Stage("base-decay", "base", 900, 12, 1e-3, 0, 1.0, EVERY, _WINDOWS),
    Stage("fine", "experts", 120, 12, 3e-3, 10, 0.0, FINE, _WINDOWS, balance=0.01),
    Stage("rough", "experts", 60, 12, 3e-3, 0, 0.0, ROUGH, _WINDOWS, balance=0.01),
    Stage("box", "experts", 60, 12, 3e-3, 0, 1.0, BOX, _WINDOWS, balance=0.01),
)

"""What happens before a run's first step, and before its experts' first."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from a2edit.model.checkpoint import Checkpoint
from a2edit.training.autoencoder import fit_autoencoder
from a2edit.training.data import PairFactory
from a2edit.training.flow import FlowModel
from a2edit.training.gate_start import gate_features, start_gate
from a2edit.training.init import start_transformer
from a2edit.training.recipe import Recipe
from a2edit.training.settings import LoopSettings
from a2edit.training.stages import Stage
from a2edit.training.stream import Choice, batches

# Index of the first sample that the gate's start is measured on; stages begin at millions.
_GATE_SAMPLES = 80_000
_AT_ONCE = 4


def begin_weights(
    checkpoint: Checkpoint,
    flow: FlowModel,
    factory: PairFactory,
    settings: LoopSettings,
    fresh: frozenset[str],
) -> None:
    """Give new parts their start: pointer heads, principal components, heads that are thrown away.

    `fresh` names the parts that are new; the others are left as they are.
    """
    torch.manual_seed(settings.seed)
    config = checkpoint.config
    if "transformer" in fresh:
        columns = config.size // 16 if config.layout == "diptych" else 0
        start_transformer(checkpoint.transformer, columns)
    if "vae" in fresh:
        fit_autoencoder(checkpoint.vae, factory, settings.fit_samples)
    for head in flow.semantics.children():
        if isinstance(head, nn.Linear):
            head.reset_parameters()


def begin_gate(
    flow: FlowModel, factory: PairFactory, recipe: Recipe, stage: Stage, seed: int
) -> None:
    """Give a new gate its start, by samples that no stage trains on."""
    # Whatever ran before in this process, the gate is the same.
    torch.manual_seed(seed)
    samples = batches(
        factory, Choice(stage.masks, _AT_ONCE), first=_GATE_SAMPLES // _AT_ONCE, workers=0
    )
    count = -(-recipe.gate_samples // _AT_ONCE)
    features = gate_features(flow, itertools.islice(samples, count))
    checkpoint = flow.checkpoint
    start_gate(checkpoint.gate, features, checkpoint.config, recipe.gate_start, seed)

"""How a gate starts: even, spread, or knowing the categories.

The paper trains gate and experts jointly and says nothing of the start. From an even one, all
experts see every sample alike, learn the same thing, and leave the gate nothing to choose by. Both
remedies here act before the first step of the experts; from there on the training is the paper's,
and no label is looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor
from torch.nn import functional

from a2edit.model.config import MoTConfig
from a2edit.model.gate import ConditioningGate
from a2edit.training.data import Batch
from a2edit.training.flow import FlowModel
from a2edit.training.init import spread_gate

GateStart = Literal["even", "spread", "categories"]

# Of a request's own expert over the anchor, and of the anchor over the rest: logits.
_SHARPNESS = 1.5
_STEPS, _BATCH, _RATE, _DECAY = 600, 128, 3e-3, 0.05


@dataclass(frozen=True, slots=True)
class GateFeatures:
    """What the gate sees of S requests, pooled over tokens already, and what they show.

    Attributes:
        conditioning [S, 320], reference [S, D], text [S, D]: fp32 means.
        category: i64 [S].
    """

    conditioning: Tensor
    reference: Tensor
    text: Tensor
    category: Tensor

    def logits(self, gate: ConditioningGate) -> Tensor:
        """[S, L, N]; a mean over tokens is its own mean."""
        logits: Tensor = gate(
            self.conditioning[:, None], self.reference[:, None], self.text[:, None]
        )
        return logits

    def __getitem__(self, index: Tensor) -> GateFeatures:
        return GateFeatures(*(getattr(self, name)[index] for name in self.__slots__))


@torch.no_grad()
def gate_features(flow: FlowModel, samples: Iterable[Batch]) -> GateFeatures:
    """Run the encoders over batches and keep the means."""
    found: list[tuple[Tensor, ...]] = []
    for samples_batch in samples:
        batch = samples_batch.to(flow.device)
        conditioning = flow.graphs["vae_encoder"](batch.canvas, batch.mask).flatten(1, 2)
        text, reference, _ = flow.context(batch)
        means = (tokens.float().mean(1) for tokens in (conditioning, reference, text))
        found.append((*means, batch.category))
    return GateFeatures(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def start_gate(
    gate: ConditioningGate,
    features: GateFeatures,
    config: MoTConfig,
    start: GateStart,
    seed: int = 0,
) -> float:
    """Set the gate to its start, in place.

    - "even": every expert equally likely but for a small random difference.
    - "spread": logits of mean 0 and standard deviation 1 over the samples, at random.
    - "categories": the gate learns to give every category an expert of its own beside the anchor.
      With more categories than experts, those that look alike share one.

    Returns:
        share of the samples whose strongest expert is the one that was meant for them; 0 where no
        expert is meant for anything.
    """
    gate.start_even()
    if start == "even":
        return 0.0
    if start == "spread":
        with torch.no_grad():
            spread_gate(gate, features.logits(gate))
        return 0.0
    owners = expert_of_category(features, config.num_experts, config.anchor)
    wanted = wanted_logits(owners, config.num_experts, config.anchor)[features.category]
    _teach(gate, features, torch.softmax(wanted, -1), seed)
    with torch.no_grad():
        strongest = features.logits(gate).argmax(-1)
    return float((strongest == owners[features.category][:, None]).float().mean())


def expert_of_category(features: GateFeatures, experts: int, anchor: int) -> Tensor:
    """The expert of every category, i64 [C]; the anchor is nobody's own.

    Categories whose mean reference and text are closest share, when there are not enough.
    """
    count = int(features.category.max()) + 1
    assistants = [index for index in range(experts) if index != anchor] or [anchor]
    if count <= len(assistants):
        groups = range(count)
    else:
        seen = torch.cat([features.reference, features.text], 1)
        seen = (seen - seen.mean(0)) / seen.std(0).clamp_min(1e-6)
        means = [seen[features.category == place].mean(0) for place in range(count)]
        stacked = torch.nan_to_num(torch.stack(means)).cpu().numpy()
        groups = AgglomerativeClustering(len(assistants)).fit_predict(stacked).tolist()
    return torch.tensor([assistants[group] for group in groups], device=features.category.device)


def wanted_logits(owners: Tensor, experts: int, anchor: int) -> Tensor:
    """Logits [C, N] that wake the anchor and a category's own expert, and no other."""
    logits = torch.full((len(owners), experts), -_SHARPNESS, device=owners.device)
    logits[:, anchor] = 0.0
    return logits.scatter(1, owners[:, None], _SHARPNESS)


def _teach(gate: ConditioningGate, features: GateFeatures, wanted: Tensor, seed: int) -> None:
    """Minimise KL(wanted ‖ softmax of the logits) in every block; wanted [S, N]."""
    # Autocast keeps a copy of every weight for as long as it is on: steps would not be seen.
    with torch.autocast(wanted.device.type, enabled=False):
        _descend(gate, features, wanted, torch.Generator().manual_seed(seed))


def _descend(
    gate: ConditioningGate, features: GateFeatures, wanted: Tensor, generator: torch.Generator
) -> None:
    parameters = [parameter.requires_grad_(True) for parameter in gate.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, _STEPS)
    for _ in range(_STEPS):
        chosen = torch.randint(len(wanted), (_BATCH,), generator=generator).to(wanted.device)
        logits = features[chosen].logits(gate)
        target = wanted[chosen][:, None].expand_as(logits)
        loss = functional.kl_div(torch.log_softmax(logits, -1), target, reduction="batchmean")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()

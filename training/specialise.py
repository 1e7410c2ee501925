"""What makes experts differ: which linears carry them, and what the gate is charged for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from a2edit.training.stages import ExpertsOn, Stage


def carries(name: str, where: ExpertsOn) -> bool:
    """Whether experts at routed linear `name` learn; a single block's proj_out counts as FFN."""
    if where in {"all", "none"}:
        return where == "all"
    return (".attn." in name) == (where == "attention")


def gate_penalty(logits: Tensor, stage: Stage) -> Tensor:
    """What a stage charges the gate for a batch's logits [B, L, N]; a scalar, 0 when all is off.

    `balance` weighs how far the batch's mean table is from even, KL(mean ‖ uniform); `sharpen`
    the mean entropy of each sample's own table, as a share of log N. Both are means over blocks.
    """
    penalty = logits.new_zeros(())
    if stage.balance:
        penalty = penalty + stage.balance * imbalance(logits)
    if stage.sharpen:
        penalty = penalty + stage.sharpen * own_entropy(logits)
    return penalty


def imbalance(logits: Tensor) -> Tensor:
    """KL of the batch's mean gate table from even, mean over blocks: 0 to log N."""
    mean = torch.softmax(logits, -1).mean(0)
    return (mean * (mean * mean.shape[-1]).log()).sum(-1).mean()


def own_entropy(logits: Tensor) -> Tensor:
    """Entropy of a sample's table as a share of log N, mean over samples and blocks: 0 to 1."""
    logs = torch.log_softmax(logits, -1)
    return -(logs.exp() * logs).sum(-1).mean() / _largest_entropy(logits.shape[-1])


@torch.no_grad()
def gate_figures(logits: Tensor, weights: Tensor) -> dict[str, float]:
    """Figures of a batch's logits and routed weights [B, L, N], for the log.

    Returns:
        active: experts a block; entropy: of their mean use, as a share of log N (1: all alike);
        own_entropy: of a sample's own table; spread: of weights between samples.
    """
    use = weights.mean((0, 1))
    use = use / use.sum()
    return {
        "active": (weights > 0).float().sum(-1).mean().item(),
        "entropy": -(use * use.clamp_min(1e-9).log()).sum().item() / _largest_entropy(len(use)),
        "own_entropy": own_entropy(logits).item(),
        "spread": weights.std(0).mean().item(),
    }


def _largest_entropy(experts: int) -> float:
    """Of `experts` shares; a lone expert has none, and anything serves to divide its 0 by."""
    return math.log(max(2, experts))

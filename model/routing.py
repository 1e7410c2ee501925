"""Anchor-Guided Routing: from a gate's logits to the weights that run (SPEC §3, paper §3.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from a2edit.model.config import MoTConfig


def anchor_guided_routing(
    logits: Tensor,
    *,
    anchor: int = 0,
    fallback: Literal["strongest", "none"] = "strongest",
    renorm: bool = False,
    anchor_weight: Literal["gate", "one"] = "gate",
) -> Tensor:
    """Choose the active experts of every block and give them their weights.

    The anchor is always active. Every expert whose logit is strictly above the anchor's joins it;
    when none is, the strongest other expert joins (the lowest index among equals) unless
    `fallback` is "none". Logits are compared, not their softmax, because two different fp32 logits
    can round to one probability.

    Args:
        logits: [..., N], any float dtype; computed in fp32.
        anchor: index of the backbone expert.
        fallback: "strongest" or "none".
        renorm: divide by the sum over the active experts.
        anchor_weight: "gate" keeps the anchor's softmax weight, "one" sets it to 1.

    Returns:
        weights [..., N] fp32; 0 marks an inactive expert.
    """
    logits = logits.float()
    count = logits.shape[-1]
    index = torch.arange(count, device=logits.device)
    is_anchor = index == anchor
    others = logits.masked_fill(is_anchor, float("-inf"))
    active = others > logits[..., anchor : anchor + 1]
    if fallback == "strongest" and count > 1:
        # The first maximum by comparison: argmax promises nothing about ties.
        is_peak = others == others.amax(-1, keepdim=True)
        first = torch.where(is_peak, index, count).amin(-1, keepdim=True)
        active = active | ((index == first) & ~active.any(-1, keepdim=True))
    weights = torch.softmax(logits, -1)
    if anchor_weight == "one":
        weights = torch.where(is_anchor, torch.ones_like(weights), weights)
    weights = torch.where(active | is_anchor, weights, torch.zeros_like(weights))
    return weights / weights.sum(-1, keepdim=True) if renorm else weights


def route_weights(logits: Tensor, config: MoTConfig) -> Tensor:
    """`anchor_guided_routing` as a checkpoint's config wants it."""
    return anchor_guided_routing(
        logits,
        anchor=config.anchor,
        fallback=config.fallback,
        renorm=config.renorm,
        anchor_weight=config.anchor_weight,
    )

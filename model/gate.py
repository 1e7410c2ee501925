"""The gate: from what the request shows to one weight an expert, in every block (SPEC §3)."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

GATE_WIDTH = 512  # the paper gives none


class ConditioningGate(ModelMixin, ConfigMixin):
    """Gate over pooled target, reference and text features; it sees no noise and no timestep.

    Each source is mean-pooled and projected, the three are summed, a trunk MLP and one head a block
    give logits. Because nothing of it changes over the steps, the route is known before the first
    one, and a static engine is exact for its weights.
    """

    @register_to_config
    def __init__(
        self,
        blocks: int,
        experts: int = 8,
        conditioning_channels: int = 320,
        context_channels: int = 4096,
        width: int = GATE_WIDTH,
    ) -> None:
        super().__init__()
        self.target_proj = nn.Linear(conditioning_channels, width)
        self.reference_proj = nn.Linear(context_channels, width)
        self.text_proj = nn.Linear(context_channels, width)
        self.trunk = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.heads = nn.Linear(width, blocks * experts)
        self.blocks, self.experts = blocks, experts

    def forward(
        self, conditioning: Tensor, reference_tokens: Tensor, text_tokens: Tensor
    ) -> Tensor:
        """Logits of every block's experts.

        Args:
            conditioning: [B, Li, C] packed masked-image and mask tokens.
            reference_tokens: [B, Lr, D].
            text_tokens: [B, Lt, D].

        Returns:
            [B, L, N] fp32.
        """
        features = (
            self.target_proj(conditioning.mean(1))
            + self.reference_proj(reference_tokens.mean(1))
            + self.text_proj(text_tokens.mean(1))
        )
        logits: Tensor = self.heads(self.trunk(features)).float()
        return logits.unflatten(-1, (self.blocks, self.experts))

    @torch.no_grad()
    def start_even(self, scale: float = 0.02) -> None:
        """Start all experts equally likely, with small random differences between requests."""
        nn.init.normal_(self.heads.weight, std=scale)
        nn.init.zeros_(self.heads.bias)

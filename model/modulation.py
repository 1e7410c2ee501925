"""adaLN's modulation apart from the step: it depends on noise level, guidance and prompt alone.

Its linears hold 27 % of the full-size weights, and read them for one row a step. Computed for every
noise level of a schedule before the loop, they need not stay in a GPU's memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn


def modulation_widths(transformer: FluxTransformer2DModel) -> dict[str, int]:
    """How many outputs the linear of each adaLN norm has, by the norm's module path, in order."""
    width = int(transformer.inner_dim)
    widths = {
        f"transformer_blocks.{block}.{norm}": 6 * width
        for block in range(len(transformer.transformer_blocks))
        for norm in ("norm1", "norm1_context")
    }
    for block in range(len(transformer.single_transformer_blocks)):
        widths[f"single_transformer_blocks.{block}.norm"] = 3 * width
    return {**widths, "norm_out": 2 * width}


class Modulation(nn.Module):
    """Every block's shifts, scales and gates at a noise level: [B] and pooled [B, P] → [B, M].

    M counts the outputs of all adaLN linears: 1,056,768 at full size.
    """

    def __init__(self, transformer: FluxTransformer2DModel) -> None:
        super().__init__()
        self.embed = transformer.time_text_embed
        linears = [
            transformer.get_submodule(f"{norm}.linear") for norm in modulation_widths(transformer)
        ]
        self.linears = nn.ModuleList(linears)

    def forward(self, pooled: Tensor, sigma: Tensor, guidance: Tensor) -> Tensor:
        """pooled [B, P]; sigma and guidance [B] in fp32, or in what the transformer would have."""
        # the transformer takes both in thousands (SPEC §2)
        embedded = self.embed(1000 * sigma, 1000 * guidance, pooled)
        raised = nn.functional.silu(embedded)
        return torch.cat([linear(raised) for linear in self.linears], -1)


@contextmanager
def modulated(transformer: FluxTransformer2DModel) -> Iterator[None]:
    """Inside, the transformer takes what `Modulation` gives as its `pooled_projections`.

    It computes none of it: its `timestep` and `guidance` are not looked at. Its blocks and
    `norm_out` take the same as their `temb`.
    """
    embed, start = transformer.time_text_embed, 0
    own = {}
    transformer.time_text_embed = _Given()
    try:
        for name, width in modulation_widths(transformer).items():
            norm = transformer.get_submodule(name)
            own[name] = norm.silu, norm.linear
            norm.silu, norm.linear = nn.Identity(), _Part(start, start + width)
            start += width
        yield
    finally:
        transformer.time_text_embed = embed
        for name, (silu, linear) in own.items():
            norm = transformer.get_submodule(name)
            norm.silu, norm.linear = silu, linear


class _Given(nn.Module):
    """In the place of the time and text embedding: the last of its inputs is the answer."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[-1]


class _Part(nn.Module):
    """In the place of a linear: a norm's own outputs, from all of them."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, modulation: Tensor) -> Tensor:
        return modulation[:, self.start : self.stop]

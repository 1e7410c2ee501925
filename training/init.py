"""A start from which copying is quickly learnt: heads that already look at the aligned reference.

Random attention has to find, among all tokens, the one on the left panel that shows what belongs at
a position on the right. RoPE makes that place a constant offset, and a head whose query and key are
constant vectors scores keys by offset alone; so one head a block starts as a pointer to its
counterpart, and the first block's pointer carries the reference's latents into channels of their
own. Everything stays trainable.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from a2edit.model.gate import ConditioningGate

# Shares of the pointer's energy over a RoPE axis's fastest frequencies: sharp, and no second peak
# within a diptych of 32 columns.
_ENERGY = (0.4, 0.3, 0.2, 0.1)
_SHARPNESS = 2.0  # of the q/k norms on those channels; the score's peak grows with its square


@torch.no_grad()
def start_transformer(transformer: FluxTransformer2DModel, offset_columns: int) -> None:
    """Initialise in place.

    Modulation starts at the identity (weights 0, gates 1), residual outputs at 1/√(2L) of their
    size, the last projection at the difference of noisy latents and copied reference.

    Args:
        transformer: a Flux transformer whose width is at least four times its output channels.
        offset_columns: token columns from a target token back to its counterpart; 0: no pointer
            heads (layout `redux`).
    """
    blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    shrink = (2 * len(blocks)) ** -0.5
    width = transformer.inner_dim
    for block in transformer.transformer_blocks:
        _identity_modulation(block.norm1.linear, width, (2, 5))
        _identity_modulation(block.norm1_context.linear, width, (2, 5))
        outputs = (
            block.attn.to_out[0],
            block.attn.to_add_out,
            block.ff.net[2],
            block.ff_context.net[2],
        )
        for linear in outputs:
            linear.weight.mul_(shrink)
    for block in transformer.single_transformer_blocks:
        _identity_modulation(block.norm.linear, width, (2,))
        block.proj_out.weight.mul_(shrink)
    nn.init.zeros_(transformer.norm_out.linear.weight)
    nn.init.zeros_(transformer.norm_out.linear.bias)
    _start_embedding(transformer)
    if offset_columns:
        for block in blocks:
            _point(block.attn, transformer.config, offset_columns)
        _carry_reference(transformer)


def _identity_modulation(linear: nn.Linear, width: int, gates: tuple[int, ...]) -> None:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    for gate in gates:
        linear.bias[gate * width : (gate + 1) * width] = 1.0


def _start_embedding(transformer: FluxTransformer2DModel) -> None:
    """Noisy and masked-image latents each get channels of their own; the mask gets the rest."""
    latent = transformer.config.out_channels
    embed, out = transformer.x_embedder.weight, transformer.proj_out.weight
    embed.mul_(0.1)
    eye = torch.eye(latent)
    embed[:latent, :latent] += eye
    embed[latent : 2 * latent, latent : 2 * latent] += eye
    mask = transformer.config.in_channels - 2 * latent
    rest = embed.shape[0] - 3 * latent
    nn.init.normal_(embed[3 * latent :, 2 * latent :], std=(4 / mask) ** 0.5 if rest else 0.0)
    nn.init.zeros_(transformer.proj_out.bias)
    nn.init.zeros_(out)
    out[:, :latent] += 0.7 * eye
    out[:, 2 * latent : 3 * latent] -= 0.7 * eye


def _point(attention: Any, config: Any, columns: int) -> None:
    """Make head 0 score keys by their offset, with its peak `columns` to the left, same row."""
    axes: tuple[int, int, int] = config.axes_dims_rope
    query, turned, used = torch.zeros(sum(axes)), torch.zeros(sum(axes)), torch.zeros(sum(axes))
    for axis, shift in ((1, 0), (2, columns)):
        start = sum(axes[:axis])
        for place, share in enumerate(_ENERGY[: axes[axis] // 2]):
            angle = torch.tensor(shift * 10000.0 ** (-2 * place / axes[axis]))
            pair = slice(start + 2 * place, start + 2 * place + 2)
            query[pair] = torch.tensor([share**0.5, 0.0])
            turned[pair] = share**0.5 * torch.stack([angle.cos(), angle.sin()])
            used[pair] = 1
    size = sum(axes) ** 0.5 / query.norm()
    for linear, vector in ((attention.to_q, query), (attention.to_k, turned)):
        linear.weight[: sum(axes)] *= 0.1
        linear.bias[: sum(axes)] = vector * size
    for norm in (attention.norm_q, attention.norm_k):
        norm.weight.mul_(1 + (_SHARPNESS - 1) * used)


def _carry_reference(transformer: FluxTransformer2DModel) -> None:
    """The first block's pointer head moves the reference's latents to channels [2c, 3c)."""
    latent = transformer.config.out_channels
    head = transformer.config.attention_head_dim
    attention = transformer.transformer_blocks[0].attn
    count = min(latent, head)
    _copy(attention.to_v.weight, rows=0, columns=latent, count=count)
    _copy(attention.to_out[0].weight, rows=2 * latent, columns=0, count=count)


def _copy(weight: Tensor, rows: int, columns: int, count: int) -> None:
    weight[rows : rows + count] *= 0.1
    weight[rows : rows + count, columns : columns + count] += torch.eye(count)


@torch.no_grad()
def spread_gate(gate: ConditioningGate, logits: Tensor, spread: float = 1.0) -> None:
    """Make requests disagree about their experts from the first step on.

    A gate that starts even sends every sample to all experts alike; they then learn the same thing
    and give the gate nothing to choose by. So its heads are rescaled until, over some samples,
    every logit has mean 0 and standard deviation `spread`: which expert sees what is random, but
    it is the same for requests that look alike. Training is as in the paper from there on.

    Args:
        gate: rescaled in place.
        logits: [S, L, N], what the gate says now about S samples.
        spread: standard deviation over the samples to start with.
    """
    flat = logits.flatten(1)
    gain = spread / flat.std(0).clamp_min(1e-6)
    gate.heads.weight.mul_(gain[:, None])
    gate.heads.bias.copy_((gate.heads.bias - flat.mean(0)) * gain)

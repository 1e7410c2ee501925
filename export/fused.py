"""A denoiser's attention with our kernel between its projections and its products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxAttention
from torch import Tensor, nn

from a2edit.kernels.ops import qk_norm_rope

# Of a stream: its projections to q, k and v, and the norms of q and k.
_IMAGE = ("to_q", "to_k", "to_v", "norm_q", "norm_k")
_TEXT = ("add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k")


@contextmanager
def fused_attention(graph: nn.Module) -> Iterator[None]:
    """Every attention of the graph by `FusedAttention`; undone at the end."""
    found = [module for module in graph.modules() if isinstance(module, FluxAttention)]
    processors = [module.processor for module in found]
    try:
        for module in found:
            module.processor = FusedAttention()
        yield
    finally:
        for module, processor in zip(found, processors, strict=True):
            module.processor = processor


class FusedAttention:
    """What diffusers calls a processor: attention over text and image tokens joined.

    q and k of each stream are normed and turned in one pass, each read once and written once.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Image tokens [B, Li, C], and text tokens [B, Lt, C] of a block with two streams."""
        assert attention_mask is None
        assert image_rotary_emb is not None
        # diffusers has every angle twice, once for each channel of a pair
        cosines, sines = (table[:, ::2].contiguous() for table in image_rotary_emb)
        streams = [(hidden_states, _IMAGE)]
        if encoder_hidden_states is not None:
            streams.insert(0, (encoder_hidden_states, _TEXT))
        first, heads = 0, []
        for tokens, names in streams:
            last = first + tokens.shape[1]
            heads.append(_heads(attn, tokens, names, cosines[first:last], sines[first:last]))
            first = last
        q, k, v = (torch.cat(parts, 1).transpose(1, 2) for parts in zip(*heads, strict=True))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        result = mixed.transpose(1, 2).flatten(2)
        if encoder_hidden_states is None:
            return result
        text = encoder_hidden_states.shape[1]
        image: Tensor = attn.to_out[0](result[:, text:])
        return image, attn.to_add_out(result[:, :text])


def _heads(
    attn: Any, tokens: Tensor, names: tuple[str, ...], cosines: Tensor, sines: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """q and k, normed and turned, and v of a stream, [B, L, heads, D]."""
    *projections, q_norm, k_norm = (getattr(attn, name) for name in names)
    q, k, v = (made(tokens).unflatten(-1, (-1, attn.head_dim)) for made in projections)
    q, k = qk_norm_rope(q, k, _weight(q_norm), _weight(k_norm), cosines, sines)
    return q, k, v


def _weight(norm: nn.Module) -> Tensor:
    """Of a norm, or of one whose inputs are widened."""
    weight: Tensor = getattr(norm, "inner", norm).weight  # type: ignore[assignment]
    return weight

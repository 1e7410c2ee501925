"""A denoising step cut in two behind its first block, so that its tail can be left out.

The first block's residual changes from step to step about as much as what the other blocks add
does. So a host runs the head alone while the residual has changed little, and takes the blocks'
part from the last whole step: what diffusers calls a first-block cache. A head and a tail after it
are the whole step, `DitGraph`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import DitGraph, GraphModule, TransformerGraph
from a2edit.model.latents import image_ids
from a2edit.model.modulation import modulated, modulation_widths
from a2edit.runtime.errors import CheckpointError

# Below it, a residual that nothing was kept of yet; the change against it is then a large number.
_TINY = 1e-12


class DitHeadGraph(TransformerGraph):
    """Embedders and the first block; and the step as it is where the tail is left out.

    `first` is what the block adds to the image's tokens, `residual` what all blocks behind it added
    when they last ran, `previous` what `first` was then.
    """

    graph_name = "dit_head"
    input_names = (*DitGraph.input_names, "previous", "residual")
    output_names = ("hidden", "context", "first", "change", "next_latents")
    picture_dims: ClassVar = dict.fromkeys(
        ("latents", "conditioning", "previous", "residual"), ("rows", "columns")
    )

    def forward(
        self,
        latents: Tensor,
        conditioning: Tensor,
        text_tokens: Tensor,
        reference_tokens: Tensor,
        modulation: Tensor,
        delta: Tensor,
        previous: Tensor,
        residual: Tensor,
    ) -> tuple[Tensor, ...]:
        """Inputs as of `DitGraph`, and previous, residual fp32 [B, h, w, D].

        Returns:
            hidden [B, h, w, D] and context [B, Lt + Lr, D], for the tail;
            first [B, h, w, D]; change, its relative L1 distance to `previous`, fp32 [B];
            next_latents [B, h, w, 64] with `residual` in place of the tail.
        """
        net = self.transformer
        _, rows, columns, _ = latents.shape
        embedded = net.x_embedder(torch.cat([latents, conditioning], -1).flatten(1, 2))
        tokens = net.context_embedder(torch.cat([text_tokens, reference_tokens], 1))
        with modulated(net):
            context, hidden = net.transformer_blocks[0](
                hidden_states=embedded,
                encoder_hidden_states=tokens,
                temb=modulation,
                image_rotary_emb=_rotary(net, self.text_ids, rows, columns),
            )
        first = (hidden - embedded).unflatten(1, (rows, columns))
        hidden = hidden.unflatten(1, (rows, columns))
        step = euler(net, latents, hidden + residual, modulation, delta)
        return hidden, context, first, relative_change(first, previous), step

    def example_inputs(self, batch: int = 1, size: int | None = None) -> tuple[Tensor, ...]:
        *tensors, previous, residual = self.shapes.random(
            (*self.input_names[:5], "previous", "residual"), batch, size
        )
        return (*tensors, torch.full((batch,), -0.05), previous, residual)


class DitTailGraph(TransformerGraph):
    """All blocks behind the first, and the Euler step."""

    graph_name = "dit_tail"
    input_names = ("latents", "hidden", "context", "modulation", "delta")
    output_names = ("next_latents", "residual")
    picture_dims: ClassVar = dict.fromkeys(("latents", "hidden"), ("rows", "columns"))

    def forward(
        self, latents: Tensor, hidden: Tensor, context: Tensor, modulation: Tensor, delta: Tensor
    ) -> tuple[Tensor, Tensor]:
        """hidden and context as the head gave them; the others as of `DitGraph`.

        Returns:
            next_latents fp32 [B, h, w, 64]; residual [B, h, w, D], what these blocks added.
        """
        net = self.transformer
        _, rows, columns, _ = latents.shape
        image, text, rotary = (
            hidden.flatten(1, 2),
            context,
            _rotary(net, self.text_ids, rows, columns),
        )
        with modulated(net):
            for block in (*net.transformer_blocks[1:], *net.single_transformer_blocks):
                text, image = block(
                    hidden_states=image,
                    encoder_hidden_states=text,
                    temb=modulation,
                    image_rotary_emb=rotary,
                )
        image = image.unflatten(1, (rows, columns))
        return euler(net, latents, image, modulation, delta), image - hidden

    def example_inputs(self, batch: int = 1, size: int | None = None) -> tuple[Tensor, ...]:
        tensors = self.shapes.random(self.input_names[:4], batch, size)
        return (*tensors, torch.full((batch,), -0.05))


def relative_change(first: Tensor, previous: Tensor) -> Tensor:
    """mean |first − previous| / mean |previous| of every sample, fp32 [B], of [B, h, w, D]."""
    axes = (1, 2, 3)
    size = previous.float().abs().mean(axes).clamp(min=_TINY)
    return (first.float() - previous.float()).abs().mean(axes) / size


def euler(net: Any, latents: Tensor, hidden: Tensor, modulation: Tensor, delta: Tensor) -> Tensor:
    """x + Δσ·v of the transformer's last hidden tokens [B, h, w, D]; fp32 outside of it."""
    _, rows, columns, _ = latents.shape
    with modulated(net):
        tokens = net.proj_out(net.norm_out(hidden.flatten(1, 2), modulation))
    velocity = tokens.unflatten(1, (rows, columns))
    return latents.float() + delta[:, None, None, None] * velocity.float()


def _rotary(net: Any, text_ids: Tensor, rows: int, columns: int) -> Any:
    ids = torch.cat([text_ids, image_ids(rows, columns).to(text_ids.device)])
    return net.pos_embed(ids)


_FIRST, _TIMES = "transformer_blocks.0.", "time_text_embed."


def in_head(layer: str) -> bool:
    """Whether a layer of a block, by its name in the transformer, is the head's."""
    return layer.startswith(_FIRST)


def unread(graph: TransformerGraph) -> tuple[str, ...]:
    """Beginnings of names of parameters that a graph's transformer has and the graph does not read.

    The modulation's always; of a head or a tail, what belongs to the other.
    """
    net: Any = graph.transformer
    names = [_TIMES, *(f"{norm}.linear." for norm in modulation_widths(net))]
    if isinstance(graph, DitHeadGraph):
        behind = [f"transformer_blocks.{place}." for place in range(1, len(net.transformer_blocks))]
        names += [*behind, "single_transformer_blocks."]
    if isinstance(graph, DitTailGraph):
        names += [_FIRST, "x_embedder.", "context_embedder."]
    return tuple(f"transformer.{name}" for name in names)


def make_cache_graphs(checkpoint: Checkpoint) -> dict[str, GraphModule]:
    """Head and tail of a checkpoint's denoiser by name, sharing its modules.

    Raises:
        CheckpointError: it has no block to be the head, or none behind it.
    """
    config = checkpoint.transformer.config
    double, single = int(config.num_layers), int(config.num_single_layers)
    if double < 1 or double + single < 2:
        raise CheckpointError(
            f"the transformer has {double} double and {single} single blocks: a first-block cache "
            "needs a double one and at least one behind it; build without --cache"
        )
    return {kind.graph_name: kind(checkpoint).eval() for kind in (DitHeadGraph, DitTailGraph)}

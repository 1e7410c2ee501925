"""The thick graphs: everything between bytes in and bytes out, as modules to run or to export.

One graph is one module with tensors at its edge and no Python value but its weights, so that the
reference pipeline, the exporter and the verification all speak of the same function ("Thick graphs,
thin hosts", docs/architecture.md). Bytes are cast where they come in and where they leave: TensorRT
computes nothing in uint8, not even a transpose.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.latents import image_ids, mask_tokens, pack, unpack
from a2edit.model.modulation import Modulation, modulated, modulation_widths
from a2edit.model.routing import route_weights

_PIXELS, _TOKENS = ("height", "width"), ("rows", "columns")


class GraphModule(nn.Module, ABC):
    """A graph: a name, named inputs and outputs, and inputs to try it with.

    Nothing in it depends on the batch, nor on the working size but by its inputs' shapes.
    """

    graph_name: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    # Of inputs that show a picture: what their second and third dimensions are.
    picture_dims: ClassVar[Mapping[str, tuple[str, str]]] = {}

    @abstractmethod
    def example_inputs(self, batch: int = 1, size: int | None = None) -> tuple[Tensor, ...]:
        """Random inputs of the right shapes and dtypes, the same at every call.

        `size` is the working size in pixels; the checkpoint's own by default.
        """


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=_generator())


def _image(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] → fp32 [B, 3, H, W] in [-1, 1]."""
    return pixels.float().permute(0, 3, 1, 2) / 127.5 - 1


class VaeEncoderGraph(GraphModule):
    """Canvas and mask → conditioning tokens: packed masked-image latents and the mask (SPEC §2)."""

    graph_name = "vae_encoder"
    input_names = ("pixels", "mask")
    output_names = ("conditioning",)
    picture_dims: ClassVar = dict.fromkeys(input_names, _PIXELS)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.vae, self.config = checkpoint.vae, checkpoint.config

    def forward(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """pixels u8 [B, H, W, 3], mask u8 [B, H, W] (≥ 128: repaint) → fp32 [B, h, w, 64 + 256]."""
        hole = (mask.float() >= 128).float()[:, None]
        latents = encode_latents(self.vae, _image(pixels) * (1 - hole))
        return torch.cat([pack(latents), mask_tokens(hole)], -1)

    def example_inputs(self, batch: int = 1, size: int | None = None) -> tuple[Tensor, ...]:
        height, width = self.config.at(size).canvas
        mask = torch.zeros(batch, height, width, dtype=torch.uint8)
        mask[:, height // 4 : height // 2, -height // 2 : -height // 4] = 255
        return _pixels(batch, height, width, 3), mask


class VaeDecoderGraph(GraphModule):
    """Packed latents of the canvas → pixels of the target panel."""

    graph_name = "vae_decoder"
    input_names = ("latents",)
    output_names = ("pixels",)
    picture_dims: ClassVar = dict.fromkeys(input_names, _TOKENS)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.vae, self.shapes = checkpoint.vae, Shapes(checkpoint)
        self.diptych = checkpoint.config.layout == "diptych"

    def forward(self, latents: Tensor) -> Tensor:
        """latents fp32 [B, h, w, 64] → u8 [B, S, S, 3]."""
        if self.diptych:  # the target is the square at the right
            _, rows, columns, _ = latents.shape
            latents = latents[:, :, columns - rows :]
        sample = decode_latents(self.vae, unpack(latents))
        levels = ((sample / 2 + 0.5).clamp(0, 1) * 255).round()
        return levels.permute(0, 2, 3, 1).to(torch.uint8)

    def example_inputs(self, batch: int = 1, size: int | None = None) -> tuple[Tensor, ...]:
        return self.shapes.random(self.input_names, batch, size)


class TextEncoderGraph(GraphModule):
    """T5: ids → text tokens; padding is not masked (SPEC §11.7)."""

    graph_name = "text_encoder"
    input_names = ("text_ids",)
    output_names = ("text_tokens",)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.encoder, self.length = checkpoint.text_encoder, checkpoint.config.text_length

    def forward(self, text_ids: Tensor) -> Tensor:
        """i64 [B, Lt] → fp32 [B, Lt, D]."""
        tokens: Tensor = self.encoder(text_ids)[0]
        return tokens

    def example_inputs(self, batch: int = 1, size: int | None = None) -> tuple[Tensor, ...]:  # noqa: ARG002
        return (torch.arange(self.length).repeat(batch, 1) % self.encoder.config.vocab_size,)


class PooledEncoderGraph(GraphModule):
    """CLIP: ids → pooled vector."""

    graph_name = "pooled_encoder"
    input_names = ("pooled_ids",)
    output_names = ("pooled",)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.encoder, self.length = checkpoint.pooled_encoder, checkpoint.config.pooled_length

    def forward(self, pooled_ids: Tensor) -> Tensor:
        """i64 [B, Lp] → fp32 [B, P]."""
        pooled: Tensor = self.encoder(pooled_ids).pooler_output
        return pooled

    def example_inputs(self, batch: int = 1, size: int | None = None) -> tuple[Tensor, ...]:  # noqa: ARG002
        ids = torch.full((batch, self.length), self.encoder.config.eos_token_id)
        ids[:, 0] = self.encoder.config.bos_token_id
        return (ids,)


class ImageEncoderGraph(GraphModule):
    """SigLIP and the Redux projector: reference pixels → reference tokens."""

    graph_name = "image_encoder"
    input_names = ("reference",)
    output_names = ("reference_tokens",)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.encoder, self.redux = checkpoint.image_encoder, checkpoint.redux
        self.size = checkpoint.reference_size

    def forward(self, reference: Tensor) -> Tensor:
        """u8 [B, R, R, 3] → fp32 [B, Lr, D]."""
        tokens: Tensor = self.redux(self.encoder(_image(reference)).last_hidden_state).image_embeds
        return tokens

    def example_inputs(self, batch: int = 1, size: int | None = None) -> tuple[Tensor, ...]:  # noqa: ARG002
        return (_pixels(batch, self.size, self.size, 3),)


class GateGraph(GraphModule):
    """The gate with its routing: features → weights of the active experts, 0 for the others."""

    graph_name = "gate"
    input_names = ("conditioning", "reference_tokens", "text_tokens")
    output_names = ("gate_weights",)
    picture_dims: ClassVar = {"conditioning": _TOKENS}

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.gate, self.config = checkpoint.gate, checkpoint.config
        self.shapes = Shapes(checkpoint)

    def forward(
        self, conditioning: Tensor, reference_tokens: Tensor, text_tokens: Tensor
    ) -> Tensor:
        """[B, h, w, 320], [B, Lr, D], [B, Lt, D] → fp32 [B, L, N]."""
        logits = self.gate(conditioning.flatten(1, 2), reference_tokens, text_tokens)
        return route_weights(logits, self.config)

    def example_inputs(self, batch: int = 1, size: int | None = None) -> tuple[Tensor, ...]:
        return self.shapes.random(self.input_names, batch, size)


class TransformerGraph(GraphModule):
    """A graph of the transformer, or of a part of it; positions of text are all 0 (SPEC §2)."""

    text_ids: Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.transformer = checkpoint.transformer
        self.shapes = Shapes(checkpoint)
        context = self.shapes.text[0] + self.shapes.reference[0]
        self.register_buffer("text_ids", torch.zeros(context, 3), persistent=False)


class ModulationGraph(GraphModule):
    """adaLN's shifts, scales and gates of all blocks at a noise level.

    They depend on no latents: a host computes them for every level before its loop, and need not
    keep their weights, 27 % of the full size, beside the denoiser.
    """

    graph_name = "modulation"
    input_names = ("pooled", "sigma", "guidance")
    output_names = ("modulation",)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.modulation = Modulation(checkpoint.transformer)
        self.shapes = Shapes(checkpoint)

    def forward(self, pooled: Tensor, sigma: Tensor, guidance: Tensor) -> Tensor:
        """pooled fp32 [B, P], sigma and guidance fp32 [B] → fp32 [B, M]."""
        found: Tensor = self.modulation(pooled, sigma, guidance)
        return found

    def example_inputs(self, batch: int = 1, size: int | None = None) -> tuple[Tensor, ...]:
        (pooled,) = self.shapes.random(("pooled",), batch, size)
        return pooled, torch.full((batch,), 0.75), torch.full((batch,), 30.0)


class DitGraph(TransformerGraph):
    """One Euler step: x + Δσ·v(x, σ), in fp32 outside the transformer.

    With experts injected (`model.experts.unmerged`) it is the unmerged truth; called through
    `torch.func.functional_call` with routed weights, the merged one.
    """

    graph_name = "dit"
    input_names = (
        "latents",
        "conditioning",
        "text_tokens",
        "reference_tokens",
        "modulation",
        "delta",
    )
    output_names = ("next_latents",)
    picture_dims: ClassVar = {"latents": _TOKENS, "conditioning": _TOKENS}

    def velocity(
        self,
        latents: Tensor,
        conditioning: Tensor,
        text_tokens: Tensor,
        reference_tokens: Tensor,
        pooled: Tensor,
        sigma: Tensor,
        guidance: Tensor,
    ) -> Tensor:
        """The whole transformer's output [B, h, w, 64] at noise level sigma [B]: the reference."""
        _, rows, columns, _ = latents.shape
        velocity: Tensor = self.transformer(
            hidden_states=torch.cat([latents, conditioning], -1).flatten(1, 2),
            encoder_hidden_states=torch.cat([text_tokens, reference_tokens], 1),
            pooled_projections=pooled,
            timestep=sigma,
            img_ids=image_ids(rows, columns).to(latents.device),
            txt_ids=self.text_ids,
            guidance=guidance,
            return_dict=False,
        )[0]
        return velocity.unflatten(1, (rows, columns))

    def forward(
        self,
        latents: Tensor,
        conditioning: Tensor,
        text_tokens: Tensor,
        reference_tokens: Tensor,
        modulation: Tensor,
        delta: Tensor,
    ) -> Tensor:
        """Next latents fp32 [B, h, w, 64].

        Args:
            latents: fp32 [B, h, w, 64].
            conditioning: [B, h, w, 320].
            text_tokens: [B, Lt, D].
            reference_tokens: [B, Lr, D].
            modulation: at the noise level, as `ModulationGraph` gives it, [B, M].
            delta: σ_{i+1} − σ_i, fp32 [B].
        """
        tokens = conditioning, text_tokens, reference_tokens
        with modulated(self.transformer):  # which does not look at the two last
            velocity = self.velocity(latents, *tokens, modulation, delta, delta)
        return latents.float() + delta[:, None, None, None] * velocity.float()

    def example_inputs(self, batch: int = 1, size: int | None = None) -> tuple[Tensor, ...]:
        tensors = self.shapes.random(self.input_names[:5], batch, size)
        return (*tensors, torch.full((batch,), -0.05))


class Shapes:
    """Shapes, without batch, of what transformer, its parts, gate and decoder take."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config, transformer = checkpoint.config, checkpoint.transformer.config
        vision = checkpoint.image_encoder.config
        width = int(transformer.joint_attention_dim)
        self.latent = int(transformer.out_channels)
        self.known = int(transformer.in_channels) - self.latent
        self.text = self.config.text_length, width
        self.reference = (vision.image_size // vision.patch_size) ** 2, width
        self.pooled = (int(transformer.pooled_projection_dim),)
        self.inner = int(transformer.num_attention_heads) * int(transformer.attention_head_dim)
        self.modulation = (sum(modulation_widths(checkpoint.transformer).values()),)

    def random(self, names: Sequence[str], batch: int, size: int | None) -> tuple[Tensor, ...]:
        """Normal inputs of these names, the same at every call."""
        grid = self.config.at(size).grid
        shapes: dict[str, tuple[int, ...]] = {
            "latents": (*grid, self.latent),
            "conditioning": (*grid, self.known),
            "text_tokens": self.text,
            "reference_tokens": self.reference,
            "pooled": self.pooled,
            "context": (self.text[0] + self.reference[0], self.inner),
            "modulation": self.modulation,
            **dict.fromkeys(("hidden", "previous", "residual"), (*grid, self.inner)),
        }
        random = _generator()
        return tuple(torch.randn(batch, *shapes[name], generator=random) for name in names)


def encode_latents(vae: Any, image: Tensor) -> Tensor:
    """Scaled latents of an image [B, 3, H, W] in [-1, 1]: (mode − shift)·scale (SPEC §2)."""
    mode = vae.encode(image).latent_dist.mode()
    latents: Tensor = (mode - vae.config.shift_factor) * vae.config.scaling_factor
    return latents


def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Inverse of `encode_latents`, up to what is lost: [B, 3, H, W] in about [-1, 1]."""
    raw = latents / vae.config.scaling_factor + vae.config.shift_factor
    sample: Tensor = vae.decode(raw, return_dict=True).sample
    return sample


GRAPHS: tuple[type[GraphModule], ...] = (
    VaeEncoderGraph,
    TextEncoderGraph,
    PooledEncoderGraph,
    ImageEncoderGraph,
    GateGraph,
    ModulationGraph,
    DitGraph,
    VaeDecoderGraph,
)


def make_graphs(checkpoint: Checkpoint) -> dict[str, GraphModule]:
    """Every graph of a checkpoint by name, sharing its modules (no weights are copied)."""
    return {kind.graph_name: kind(checkpoint).eval() for kind in GRAPHS}

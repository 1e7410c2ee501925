"""New models from an `Architecture`: the real classes with random weights, mini or tiny."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)

from a2edit.model.autoencoder import PatchAutoencoder
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.config import A2EDIT_MINI, MoTConfig
from a2edit.model.experts import ExpertBank, routed_linears
from a2edit.model.gate import ConditioningGate
from a2edit.model.tokenizers import write_tokenizers


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes that the libraries' own config files hold once a checkpoint is written."""

    mot: MoTConfig
    double_blocks: int
    single_blocks: int
    heads: int
    head_dim: int
    rope_axes: tuple[int, int, int]
    context: int  # D: width of text and reference tokens
    pooled: int  # P: width of CLIP's pooled vector
    text_width: int
    text_layers: int
    vision_width: int
    vision_layers: int
    vision_size: int
    vision_patch: int
    gate_width: int
    latent_channels: int
    vae_width: int


MINI = Architecture(
    mot=A2EDIT_MINI,
    double_blocks=1,
    single_blocks=5,
    heads=4,
    head_dim=64,
    rope_axes=(8, 28, 28),
    context=128,
    pooled=64,
    text_width=128,
    text_layers=2,
    vision_width=96,
    vision_layers=2,
    vision_size=64,
    vision_patch=16,
    gate_width=64,
    latent_channels=16,
    vae_width=64,
)

# For tests: every class and code path of the mini model at a size that runs in milliseconds.
TINY = Architecture(
    mot=replace(A2EDIT_MINI, name="a2edit-tiny", rank=2, alpha=4.0, size=32, steps=3),
    double_blocks=1,
    single_blocks=2,
    heads=2,
    head_dim=16,
    rope_axes=(4, 6, 6),
    context=24,
    pooled=16,
    text_width=16,
    text_layers=1,
    vision_width=16,
    vision_layers=1,
    vision_size=32,
    vision_patch=16,
    gate_width=8,
    latent_channels=16,
    vae_width=8,
)

# TINY at the smallest size that scenes and masks can be drawn at: below 64 pixels nothing of a
# kind's details is left. For tests that train.
SMALL = replace(
    TINY,
    mot=replace(TINY.mot, size=64),
    heads=4,
    head_dim=48,
    rope_axes=(8, 20, 20),
    vision_size=16,
)


def new_checkpoint(architecture: Architecture, tokenizer_folder: Path, seed: int = 0) -> Checkpoint:
    """A checkpoint of the real classes with random weights; tokenizers are written to a folder.

    Args:
        architecture: the sizes.
        tokenizer_folder: where tokenizer.json files are put; `Checkpoint.save` copies them.
        seed: of torch's generator, for the weights.
    """
    torch.manual_seed(seed)
    a, mot = architecture, architecture.mot
    tokenizers, vocabulary, ends = write_tokenizers(tokenizer_folder)
    transformer = FluxTransformer2DModel(
        in_channels=2 * 4 * a.latent_channels + 256,
        out_channels=4 * a.latent_channels,
        num_layers=a.double_blocks,
        num_single_layers=a.single_blocks,
        attention_head_dim=a.head_dim,
        num_attention_heads=a.heads,
        joint_attention_dim=a.context,
        pooled_projection_dim=a.pooled,
        guidance_embeds=True,
        axes_dims_rope=a.rope_axes,
    )
    text_heads = max(1, a.text_width // 32)
    text_encoder = T5EncoderModel(
        T5Config(
            vocab_size=vocabulary,
            d_model=a.context,
            d_kv=a.text_width // text_heads,
            d_ff=2 * a.text_width,
            num_layers=a.text_layers,
            num_heads=text_heads,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=ends["text"],
            decoder_start_token_id=0,
            dropout_rate=0.0,
        )
    )
    pooled_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=a.pooled,
            intermediate_size=2 * a.pooled,
            projection_dim=a.pooled,
            num_hidden_layers=a.text_layers,
            num_attention_heads=max(1, a.pooled // 32),
            max_position_embeddings=mot.pooled_length,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=ends["pooled"],
        )
    )
    image_encoder = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=a.vision_width,
            intermediate_size=2 * a.vision_width,
            num_hidden_layers=a.vision_layers,
            num_attention_heads=max(1, a.vision_width // 32),
            image_size=a.vision_size,
            patch_size=a.vision_patch,
        )
    )
    redux = ReduxImageEncoder(redux_dim=a.vision_width, txt_in_features=a.context)
    linears = routed_linears(transformer)
    experts = ExpertBank(linears, mot.num_experts, mot.rank, mot.alpha)
    gate = ConditioningGate(
        blocks=experts.blocks,
        experts=mot.num_experts,
        conditioning_channels=4 * a.latent_channels + 256,
        context_channels=a.context,
        width=a.gate_width,
    )
    gate.start_even()
    checkpoint = Checkpoint(
        config=mot,
        transformer=transformer,
        vae=PatchAutoencoder(latent_channels=a.latent_channels, width=a.vae_width),
        text_encoder=text_encoder,
        pooled_encoder=pooled_encoder,
        image_encoder=image_encoder,
        redux=redux,
        gate=gate,
        experts=experts,
        tokenizers=tokenizers,
    )
    for module in checkpoint.modules().values():
        module.eval().requires_grad_(False)
    return checkpoint


def randomise_experts(checkpoint: Checkpoint, seed: int = 0, size: float = 0.05) -> None:
    """Give B (zero at the start) and the gate's heads random values: experts that do something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in checkpoint.experts.linears:
            checkpoint.experts.pair(name).B.normal_(std=size, generator=generator)
        checkpoint.gate.heads.weight.normal_(std=1.0, generator=generator)
        checkpoint.gate.heads.bias.normal_(std=1.0, generator=generator)

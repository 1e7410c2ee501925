"""Whole models without weights: every part from its config alone, on fake tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)
from transformers.initialization import no_init_weights

from a2edit.model.checkpoint import (
    FOLDERS,
    Checkpoint,
    find_checkpoint,
    read_config,
    transformer_config,
    vae_class,
)
from a2edit.model.config import A2EDIT_FULL, MoTConfig
from a2edit.model.experts import ExpertBank, routed_linears
from a2edit.model.gate import GATE_WIDTH, ConditioningGate
from a2edit.runtime.errors import CheckpointError

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Configs of a model's parts, as their own config.json has them.

    Attributes:
        mot: mixture, layout, lengths, size.
        transformer, vae, text_encoder, pooled_encoder, image_encoder, redux: of the libraries'
            classes.
        gate_width: of the gate's trunk.
    """

    mot: MoTConfig
    transformer: Values
    vae: Values
    text_encoder: Values
    pooled_encoder: Values
    image_encoder: Values
    redux: Values
    gate_width: int = 512


# FLUX.1-Fill with FLUX.1-Redux (SPEC §2), as their repositories' configs say.
FLUX_FILL = Shapes(
    mot=A2EDIT_FULL,
    transformer={
        "in_channels": 384,
        "out_channels": 64,
        "num_layers": 19,
        "num_single_layers": 38,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "guidance_embeds": True,
        "axes_dims_rope": (16, 56, 56),
    },
    vae={
        "_class_name": "AutoencoderKL",
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 16,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
    text_encoder={
        "vocab_size": 32128,
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "feed_forward_proj": "gated-gelu",
    },
    pooled_encoder={
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
        "max_position_embeddings": 77,
        "eos_token_id": 2,
    },
    image_encoder={
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    },
    redux={"redux_dim": 1152, "txt_in_features": 4096},
)


def shapes_of(name_or_folder: str | Path) -> Shapes:
    """Of "flux-fill", or of a checkpoint.

    Raises:
        CheckpointError: there is no such checkpoint, or one of its config files cannot be read.
    """
    if name_or_folder == "flux-fill":
        return FLUX_FILL
    folder = find_checkpoint(name_or_folder)
    found = {part: read_config(folder / path) for part, path in FOLDERS.items()}
    found["transformer"] = transformer_config(folder)
    width = found.pop("gate").get("width", GATE_WIDTH)
    return Shapes(mot=MoTConfig.load(folder), gate_width=int(width), **found)


def outline(name_or_folder: str | Path) -> Checkpoint:
    """A checkpoint as its config files describe it, fp32, whose parameters have no bytes.

    Raises:
        CheckpointError: a config file is missing, or describes no model.
    """
    shapes = shapes_of(name_or_folder)
    try:
        with without_weights():
            return fake_checkpoint(shapes, torch.float32)
    # What the libraries raise for sizes that do not go together.
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{name_or_folder}: its config files describe no model: {error}"
        ) from error


@contextmanager
def without_memory() -> Iterator[None]:
    """Tensors made inside have shapes, dtypes and storages, and no bytes; all else is real."""
    with FakeTensorMode(), no_init_weights():
        yield


@contextmanager
def without_weights() -> Iterator[None]:
    """Parameters of modules made inside have shapes and dtypes, and no bytes; all else is real.

    Buffers above all: tables and position ids, which an exported graph holds as constants.
    """
    register, mode = nn.Module.register_parameter, FakeTensorMode()

    def register_fake(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not isinstance(param, FakeTensor):
            with mode:
                # Not made of the real one: torch would keep that alive.
                fake = torch.empty(param.shape, dtype=param.dtype)
                param = nn.Parameter(fake, param.requires_grad)
        register(self, name, param)

    nn.Module.register_parameter = register_fake  # type: ignore[method-assign]
    try:
        with no_init_weights():
            yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def fake_checkpoint(shapes: Shapes, frozen: torch.dtype) -> Checkpoint:
    """A checkpoint of these shapes, to be made inside `without_memory` or `without_weights`.

    `frozen` is the dtype of transformer and encoders, as `Checkpoint.load` takes it.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(frozen)
    try:
        transformer = FluxTransformer2DModel.from_config(shapes.transformer)
        text_encoder = T5EncoderModel(T5Config(**shapes.text_encoder))
        pooled_encoder = CLIPTextModel(CLIPTextConfig(**shapes.pooled_encoder))
        image_encoder = SiglipVisionModel(SiglipVisionConfig(**shapes.image_encoder))
        redux = ReduxImageEncoder.from_config(shapes.redux)
    finally:
        torch.set_default_dtype(before)
    text_encoder.tie_weights()  # which transformers leaves to the weights' initialisation
    mot = shapes.mot
    experts = ExpertBank(routed_linears(transformer), mot.num_experts, mot.rank, mot.alpha)
    checkpoint = Checkpoint(
        config=mot,
        transformer=transformer,
        vae=vae_class(shapes.vae).from_config(shapes.vae),
        text_encoder=text_encoder,
        pooled_encoder=pooled_encoder,
        image_encoder=image_encoder,
        redux=redux,
        gate=ConditioningGate(
            blocks=experts.blocks,
            experts=mot.num_experts,
            conditioning_channels=transformer.config.in_channels - transformer.config.out_channels,
            context_channels=transformer.config.joint_attention_dim,
            width=shapes.gate_width,
        ),
        experts=experts,
        tokenizers={},
    )
    for module in checkpoint.modules().values():
        module.eval().requires_grad_(False)
    return checkpoint

"""Adapter files that are no plain LoRA on routed linears: each refusal by its text."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.peft_files import load_experts, save_experts
from a2edit.runtime.errors import CheckpointError

Tensors = dict[str, Tensor]
QKV = "lora_unet_double_blocks_0_img_attn_qkv"
TO_Q = "transformer.transformer_blocks.0.attn.to_q"


def _qkv(rank: int = 2) -> Tensors:
    """One fused module at TINY's width, 32."""
    return {
        f"{QKV}.lora_down.weight": torch.randn(rank, 32),
        f"{QKV}.lora_up.weight": torch.randn(96, rank),
        f"{QKV}.alpha": torch.tensor(1.0),
    }


def _to_q() -> Tensors:
    return {f"{TO_Q}.lora_A.weight": torch.randn(2, 32), f"{TO_Q}.lora_B.weight": torch.eye(32, 2)}


def _refusal(folder: Path, tiny: Checkpoint, rank: int = 2, alpha: float = 4.0) -> str:
    with pytest.raises(CheckpointError) as refusal:
        load_experts(folder, tiny.linears, 1, rank, alpha)
    return str(refusal.value)


def _plus(key: str, *shape: int) -> Tensors:
    return {**_qkv(), key: torch.ones(shape or (1,))}


def _without(ending: str) -> Tensors:
    return {key: value for key, value in _qkv().items() if not key.endswith(ending)}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (_plus("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha"), "do not touch text encoders"),
        (_plus("lora_te3_encoder_block_0_layer_0.lora_up.weight"), "do not touch text encoders"),
        (_plus("text_encoder.text_model.x.lora_A.weight"), "do not touch text encoders"),
        (_plus("text_encoders.t5xxl.transformer.x.lora_A.weight"), "do not touch text encoders"),
        (_plus("base_model.model.text_model.x.lora_A.weight"), "do not touch text encoders"),
        (_plus("lora_unet_double_blocks_0_img_mod_lin.lora_up.weight"), "of a block's modulation"),
        (_plus("single_blocks.0.modulation.lin.lora_A.weight"), "of a block's modulation"),
        (_plus("transformer.transformer_blocks.0.norm1_context.linear.alpha"), "s modulation"),
        (_plus("transformer.single_transformer_blocks.0.norm.linear.alpha"), "s modulation"),
        (_plus("lora_unet_final_layer_adaLN_modulation_1.alpha"), "of the final layer"),
        (_plus("diffusion_model.final_layer.linear.lora_A.weight"), "store in opposite order"),
        (_plus("transformer.proj_out.lora_A.weight"), "of the final layer"),
        (_plus("transformer.norm_out.linear.lora_A.weight"), "carries no experts"),
        (_plus("lora_unet_img_in.alpha"), "of an embedder"),
        (_plus("transformer.x_embedder.lora_A.weight"), "of an embedder"),
        (_plus("time_in.in_layer.lora_A.weight"), "of an embedder"),
        (_plus("transformer.time_text_embed.guidance_embedder.linear_1.alpha"), "of an embedder"),
        (_plus("double_blocks.0.img_attn.norm.query_norm.scale"), "a norm of queries and keys"),
        (_plus(f"{QKV}.dora_scale"), "makes this DoRA. Experts are plain LoRA"),
        (_plus(f"{TO_Q}.lora_magnitude_vector"), "makes this DoRA"),
        (_plus(f"{QKV}.lokr_w1"), "makes this LoKr"),
        (_plus(f"{QKV}.hada_w1_a"), "makes this LoHa"),
        (_plus(f"{QKV}.oft_blocks"), "makes this OFT"),
        (_plus(f"{TO_Q}.oft_R.default.weight"), "makes this OFT"),
        (_plus(f"{TO_Q}.ia3_l"), "makes this IA3"),
        (_plus(f"{QKV}.lora_mid.weight"), "Tucker"),
        (_plus(f"{QKV}.diff_b"), "a full weight difference"),
        (_plus("double_blocks.0.img_attn.qkv.lora_B.bias"), "makes this LoRA with biases"),
        (_plus(f"{QKV}.lora_up.bias"), "makes this LoRA with biases"),
        (_plus(f"{QKV}.scale_weight"), "does not end as a factor of a LoRA"),
        (_plus("lora_unet_double_blocks_1_img_attn_qkv.alpha"), "no linear that carries experts"),
        (_plus("lora_unet_input_blocks_4_1_proj_in.alpha"), "no linear that carries experts"),
        (_plus(f"{QKV}.lora_A.weight"), "are both A of double_blocks_0_img_attn_qkv"),
        ({**_qkv(), **_to_q()}, "both cover transformer_blocks.0.attn.to_q"),
        (_without(".lora_up.weight"), "lacks its B"),
        (_without(".weight"), f"{QKV}.alpha lacks its A and B"),
        ({}, "holds no tensors"),
        (_qkv() | {f"{QKV}.lora_up.weight": torch.ones(32, 2)}, "shape (32, 2), expected (96, 2)"),
        (_qkv() | {f"{QKV}.lora_down.weight": torch.ones(2, 9)}, "shape (2, 9), expected (2, 32)"),
        (_qkv() | {f"{QKV}.lora_down.weight": torch.ones(0, 32)}, "expected (1, 32)"),
        (_qkv() | {f"{QKV}.lora_down.weight": torch.tensor(1.0)}, "shape ()"),
        (_qkv() | {f"{QKV}.alpha": torch.tensor(0.0)}, "α is one positive number"),
        (_qkv() | {f"{QKV}.alpha": torch.ones(2)}, "α is one positive number"),
        (_qkv(3), "has rank 3; mot_config.json says 2. Raise rank there to 3 and alpha to 6"),
    ],
)
def test_files_are_refused_by_key(
    tiny: Checkpoint, tmp_path: Path, tensors: Tensors, says: str
) -> None:
    save_file(tensors, tmp_path / "expert_00.safetensors")
    text = _refusal(tmp_path, tiny)
    assert says in text
    assert "expert_00.safetensors" in text


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('{"transformer.use_rslora": true}', "use_rslora is True"),
        ('{"transformer.use_dora": true}', "use_dora is True"),
        ('{"transformer.alpha_pattern": {"to_q": 3}}', "alpha_pattern is {'to_q': 3}"),
        ('{"lora_alpha": [1]}', "lora_adapter_metadata cannot be read"),
        ("[]", "lora_adapter_metadata cannot be read"),
        ("{", "lora_adapter_metadata cannot be read"),
    ],
)
def test_metadata_is_refused(tiny: Checkpoint, tmp_path: Path, config: str, says: str) -> None:
    path = tmp_path / "expert_00.safetensors"
    save_file(_to_q(), path, {"lora_adapter_metadata": config})
    assert says in _refusal(tmp_path, tiny)


def test_alpha_from_two_sources(tiny: Checkpoint, tmp_path: Path) -> None:
    metadata = {"lora_adapter_metadata": '{"transformer.lora_alpha": 2}'}
    save_file(_qkv(), tmp_path / "expert_00.safetensors", metadata)
    assert "both say α" in _refusal(tmp_path, tiny)


def _nothing(folder: Path) -> None:
    pass


def _two_files(folder: Path) -> None:
    save_file(_qkv(), folder / "expert_00/a.safetensors")
    save_file(_qkv(), folder / "expert_00/b.safetensors")


def _folder_and_file(folder: Path) -> None:
    save_file(_qkv(), folder / "expert_00/a.safetensors")
    save_file(_qkv(), folder / "expert_00.safetensors")


def _peft_without_config(folder: Path) -> None:
    save_file(_to_q(), folder / "expert_00/adapter_model.safetensors")


def _config_without_weights(folder: Path) -> None:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    (folder / "expert_00/adapter_config.json").write_text(json.dumps(config))


def _config_is_a_list(folder: Path) -> None:
    (folder / "expert_00/adapter_config.json").write_text("[]")


def _torn(folder: Path) -> None:
    path = folder / "expert_00.safetensors"
    save_file(_qkv(), path)
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_nothing, "expert_00 is given by nothing. Allowed is one of"),
        (_two_files, "a.safetensors and "),
        (_folder_and_file, "Allowed is one of"),
        (_peft_without_config, "adapter_config.json is missing: without it the α"),
        (_config_without_weights, "adapter_model.safetensors cannot be read as safetensors"),
        (_config_is_a_list, "only LORA experts"),
        (_torn, "expert_00.safetensors cannot be read as safetensors"),
    ],
)
def test_an_expert_is_one_readable_file(
    tiny: Checkpoint, tmp_path: Path, make: Callable[[Path], None], says: str
) -> None:
    (tmp_path / "expert_00").mkdir()
    make(tmp_path)
    assert says in _refusal(tmp_path, tiny)


def test_a_bank_without_scale(tiny: Checkpoint, tmp_path: Path) -> None:
    save_file(_qkv(), tmp_path / "expert_00.safetensors")
    assert "says alpha 0" in _refusal(tmp_path, tiny, alpha=0.0)


def test_peft_folders_are_refused_by_key_too(tiny: Checkpoint, tmp_path: Path) -> None:
    """DoRA in the tensors where the config denies it."""
    save_experts(tiny.experts, tmp_path)
    path = tmp_path / "expert_00/adapter_model.safetensors"
    key = "base_model.model.transformer_blocks.0.attn.to_q.lora_magnitude_vector"
    save_file({**load_file(path), key: torch.ones(32)}, path)
    assert "makes this DoRA" in _refusal(tmp_path, tiny)

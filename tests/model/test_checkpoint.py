"""Checkpoint folders: what is saved is what is loaded, and damage is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from a2edit.model.architectures import MINI, TINY
from a2edit.model.checkpoint import Checkpoint, find_checkpoint
from a2edit.model.config import A2EDIT_FULL, A2EDIT_MINI, MoTConfig
from a2edit.runtime.errors import CheckpointError


def test_round_trip(tiny: Checkpoint, tiny_folder: Path) -> None:
    again = Checkpoint.load(tiny_folder)
    for name, module in tiny.modules().items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, again.modules()[name].state_dict()[key]), (name, key)


def test_experts_of_mixed_formats_save_as_peft(
    tiny: Checkpoint, tiny_folder: Path, tmp_path: Path
) -> None:
    """A kohya file beside the folders, a ComfyUI file in one: each covers one block's q, k, v."""
    experts = shutil.copytree(tiny_folder, tmp_path / "mixed") / "experts"
    shutil.rmtree(experts / "expert_03")
    A, B = torch.randn(1, 32), torch.randn(96, 1)
    kohya = "lora_unet_double_blocks_0_img_attn_qkv"
    save_file(
        {f"{kohya}.lora_down.weight": A, f"{kohya}.lora_up.weight": B},
        experts / "expert_03.safetensors",
    )
    for path in (experts / "expert_05").iterdir():
        path.unlink()
    comfy = "diffusion_model.double_blocks.0.img_attn.qkv"
    save_file(
        {f"{comfy}.lora_A.weight": A, f"{comfy}.lora_B.weight": B},
        experts / "expert_05/trained.safetensors",
    )

    loaded = Checkpoint.load(tmp_path / "mixed")
    loaded.save(tmp_path / "peft", torch.float32)
    assert (tmp_path / "peft/experts/expert_03/adapter_config.json").is_file()
    again = Checkpoint.load(tmp_path / "peft")
    assert_close = torch.testing.assert_close
    for place, name in enumerate(("to_q", "to_k", "to_v")):
        table = torch.zeros(loaded.blocks, 8)
        table[0, [3, 5]] = torch.tensor([0.5, 2.0])
        got = again.experts.merged_weight(
            f"transformer_blocks.0.attn.{name}", torch.zeros(32, 32), table
        )
        assert_close(got, 2.5 * B[32 * place :][:32] @ A)
    for key, value in loaded.experts.state_dict().items():
        assert torch.equal(again.experts.state_dict()[key], value)
        others = [0, 1, 2, 4, 6, 7]
        assert torch.equal(value[others], tiny.experts.state_dict()[key][others])


def test_saving_does_not_touch_the_model(tiny: Checkpoint, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in tiny.transformer.state_dict().items()}
    tiny.save(tmp_path / "half", torch.float16)
    assert all(torch.equal(v, before[k]) for k, v in tiny.transformer.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["half"]


def test_where_it_was_loaded_from_is_not_written(tiny_folder: Path, tmp_path: Path) -> None:
    Checkpoint.load(tiny_folder).save(tmp_path / "again", torch.float32)
    for path in (tmp_path / "again").rglob("*.json"):
        assert str(tiny_folder) not in path.read_text(encoding="utf-8"), path
    again = json.loads((tmp_path / "again/mot_config.json").read_text(encoding="utf-8"))
    first = json.loads((tiny_folder / "mot_config.json").read_text(encoding="utf-8"))
    assert again["base_hash"] == first["base_hash"]


@pytest.mark.parametrize("config", [A2EDIT_MINI, A2EDIT_FULL, TINY.mot, MINI.mot])
def test_presets_round_trip(config: MoTConfig) -> None:
    assert MoTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def _config(key: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "mot_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return change


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(bytes(data))

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_remove("mot_config.json"), "no mot_config.json"),
        (_remove("base/vae/config.json"), "vae/config.json is missing"),
        (_remove("base/tokenizer/tokenizer.json"), "tokenizer.json is missing"),
        (_remove("gate/gate.safetensors"), "the gate cannot be loaded"),
        (_flip("base/transformer/diffusion_pytorch_model.safetensors"), "is not the base"),
        (_config("num_experts", 7), "the gate serves"),
        (_config("fallback", "random"), "fallback is 'random'; allowed: 'strongest', 'none'"),
        (_config("gate_input", "hidden"), "gate_input is 'hidden'"),
        (_config("size", 100), "multiple of 16"),
        (_config("wings", 2), "unknown keys ['wings']"),
    ],
)
def test_damage_is_named(
    tiny_folder: Path, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_folder, folder)
    damage(folder)
    with pytest.raises(CheckpointError) as refusal:
        Checkpoint.load(folder)
    assert says in str(refusal.value)


def test_an_unknown_name_lists_the_embedded_models() -> None:
    with pytest.raises(CheckpointError, match="a2edit-mini"):
        find_checkpoint("no-such-model")

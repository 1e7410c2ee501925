"""Broken checkpoints through `a2edit-build engines`: one line naming file and key, and no files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor

from a2edit.export.cli import main
from a2edit.model.checkpoint import FOLDERS, Checkpoint

Damage = Callable[[Path], None]
PEFT = "experts/expert_02/adapter_model.safetensors"
BLOCK = "transformer_blocks.0.attn.to_q"
TRANSFORMER = f"{FOLDERS['transformer']}/diffusion_pytorch_model"


@pytest.fixture(scope="module")
def sharded(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """As published: the transformer in shards."""
    folder = tmp_path_factory.mktemp("sharded") / "model"
    shutil.copytree(checkpoint_folder, folder)
    (folder / f"{TRANSFORMER}.safetensors").unlink()
    checkpoint.transformer.save_pretrained(folder / FOLDERS["transformer"], max_shard_size="40KB")
    return folder


def _tensors(name: str, change: Callable[[dict[str, Tensor]], None]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / name)
        change(tensors)
        save_file(tensors, folder / name)

    return damage


def _kohya(rank: int, module: str) -> Damage:
    def damage(folder: Path) -> None:
        shutil.rmtree(folder / "experts/expert_02")
        A, B = torch.randn(rank, 32), torch.randn(96, rank)
        path = folder / "experts/expert_02.safetensors"
        save_file({f"{module}.lora_down.weight": A, f"{module}.lora_up.weight": B}, path)

    return damage


def _halved(factors: dict[str, Tensor]) -> None:
    for key, tensor in factors.items():
        factors[key] = (tensor[:1] if "lora_A" in key else tensor[:, :1]).clone()


def _json(name: str, key: str, value: object) -> Damage:
    def damage(folder: Path) -> None:
        values = json.loads((folder / name).read_text()) | {key: value}
        (folder / name).write_text(json.dumps(values))

    return damage


def _shard(folder: Path) -> Path:
    return sorted((folder / FOLDERS["transformer"]).glob("*.safetensors"))[1]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


DORA = f"base_model.model.{BLOCK}.lora_magnitude_vector"
STRAY = "base_model.model.transformer_blocks.7.attn.to_q.lora_A.weight"
QKV = "lora_unet_double_blocks_0_img_attn_qkv"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_tensors(PEFT, lambda it: it.update({STRAY: torch.ones(2, 4)})), (PEFT, STRAY, "matches")),
        (_kohya(2, "lora_unet_input_blocks_4_1_proj_in"), ("input_blocks_4_1", "no linear that")),
        (_tensors(PEFT, lambda it: it.update({DORA: torch.ones(8)})), (PEFT, DORA, "DoRA")),
        (
            _json("experts/expert_02/adapter_config.json", "use_dora", True),
            ("expert_02/adapter_config.json", "use_dora is True"),
        ),
        (_tensors(PEFT, _halved), (PEFT, "lora_A.weight has shape (1, 32), expected (2, 32)")),
        (_kohya(3, QKV), ("expert_02.safetensors", QKV, "has rank 3; mot_config.json says 2")),
        (lambda folder: _shard(folder).unlink(), ("00002-of-", "is missing", "index.json lists")),
        (lambda folder: _truncate(_shard(folder)), ("00002-of-", "cannot be read as safetensors")),
        (lambda folder: _truncate(folder / PEFT), (PEFT, "cannot be read as safetensors")),
        (
            _json(f"{FOLDERS['transformer']}/config.json", "in_channels", 64),
            ("transformer/config.json: in_channels is 64", "Give FLUX.1-Fill as base"),
        ),
        (
            _tensors("gate/gate.safetensors", lambda it: it.update({"heads.bias": torch.ones(3)})),
            ("gate/gate.safetensors: heads.bias is [3]", "by its config.json"),
        ),
        (
            lambda folder: (folder / "base/tokenizer_2/tokenizer.json").unlink(),
            ("tokenizer_2/tokenizer.json is missing",),
        ),
    ],
)
def test_it_is_refused_before_anything_is_written(
    sharded: Path, tmp_path: Path, damage: Damage, says: tuple[str, ...]
) -> None:
    shutil.copytree(sharded, tmp_path / "model")
    damage(tmp_path / "model")
    command = ["engines", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for text in says:
        assert text in result.stderr
    left = {path.name for path in tmp_path.rglob("*") if path.suffix in {".onnx", ".safetensors"}}
    assert left <= {path.name for path in (tmp_path / "model").rglob("*")}
    assert not (tmp_path / "out").exists()

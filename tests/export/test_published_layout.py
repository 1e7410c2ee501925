"""A folder as published ones are: AutoencoderKL, shards with their index, CLIP's older keys."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.settings import BuildSettings
from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts
from a2edit.model.checkpoint import FOLDERS, Checkpoint
from a2edit.runtime.bundle import open_bundle

SHARDED = ("transformer", "vae", "text_encoder", "image_encoder")


def _autoencoder() -> AutoencoderKL:
    """FLUX.1's, narrow: four levels, 16 channels, no convolution around the latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def _reshard(folder: Path, module: Any) -> None:
    for path in folder.glob("*.safetensors"):
        path.unlink()
    module.save_pretrained(folder, max_shard_size="40KB")
    assert list(folder.glob("*.index.json")), folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    checkpoint = new_checkpoint(TINY, folder / "tokenizers")
    randomise_experts(checkpoint)
    checkpoint.vae = _autoencoder()
    checkpoint.save(folder / "model", torch.float32)
    for part in SHARDED:
        _reshard(folder / "model" / FOLDERS[part], checkpoint.modules()[part])
    clip = folder / "model" / FOLDERS["pooled_encoder"] / "model.safetensors"
    save_file({f"text_model.{key}": value for key, value in load_file(clip).items()}, clip)
    config = folder / "model/mot_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_hash": ""}))
    return folder / "model"


@pytest.mark.slow
def test_it_loads_and_builds(published: Path, tmp_path: Path) -> None:
    build(
        BuildSettings(
            model=str(published), out=tmp_path / "bundle", routes=2, samples=8, precision="fp32"
        ),
        Silent(),
    )
    bundle = open_bundle(tmp_path / "bundle")
    loaded = Checkpoint.load(published)
    shared = load_file(tmp_path / "bundle/graphs/shared.safetensors")
    for part in FOLDERS:
        for name, parameter in loaded.modules()[part].named_parameters():
            if (key := f"{part}.{name}") in shared:
                assert torch.equal(shared[key], parameter), key
    assert any(key.startswith("vae.encoder.mid_block.attentions.0.") for key in shared)
    # The build has held every engine to torch, the autoencoder's convolutions and attention too.
    assert {"vae_encoder", "vae_decoder"} <= bundle.manifest.verification["cpu"]["graphs"].keys()

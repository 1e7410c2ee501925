"""A folder as published ones are: AutoencoderKL, shards with their index, CLIP's older keys."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import nn

from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.settings import BuildSettings
from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts
from a2edit.model.checkpoint import FOLDERS, Checkpoint
from a2edit.model.graphs import decode_latents, make_graphs
from a2edit.model.mapped import map_checkpoint
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
    module.save_pretrained(folder, max_shard_size="20KB")
    assert list(folder.glob("*.index.json")), folder


def _publish(folder: Path, dtype: torch.dtype) -> Path:
    checkpoint = new_checkpoint(TINY, folder / "tokenizers")
    randomise_experts(checkpoint)
    checkpoint.vae = _autoencoder()
    for part in SHARDED:
        nn.Module.to(checkpoint.modules()[part], dtype)
    checkpoint.save(folder / "model", dtype)
    for part in SHARDED:
        _reshard(folder / "model" / FOLDERS[part], checkpoint.modules()[part])
    clip = folder / "model" / FOLDERS["pooled_encoder"] / "model.safetensors"
    save_file({f"text_model.{key}": value for key, value in load_file(clip).items()}, clip)
    config = folder / "model/mot_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_hash": ""}))
    return folder / "model"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _publish(tmp_path_factory.mktemp("published"), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_in_its_files_it_gives_what_it_gives_in_memory(dtype: torch.dtype, tmp_path: Path) -> None:
    """T5 and SigLIP cast to the type of a matrix, shards and older keys are found."""
    folder = _publish(tmp_path, dtype)
    mapped, loaded = map_checkpoint(folder), Checkpoint.load(folder)
    assert {it.dtype for it in mapped.vae.parameters()} == {dtype}
    truths = make_graphs(loaded)
    with torch.no_grad():
        for name, graph in make_graphs(mapped).items():
            inputs = graph.example_inputs()
            assert torch.equal(graph(*inputs), truths[name](*inputs)), name
        # Before it is rounded to bytes, which hides much.
        latents = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
        assert torch.equal(decode_latents(mapped.vae, latents), decode_latents(loaded.vae, latents))


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

"""Parameters one at a time: what is read is what the libraries load, and damage is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from a2edit.model.checkpoint import FOLDERS, Checkpoint
from a2edit.model.part_files import PartFiles
from a2edit.model.weightless import outline
from a2edit.runtime.errors import CheckpointError

TRANSFORMER = "diffusion_pytorch_model.safetensors"
INDEX = f"{TRANSFORMER}.index.json"


@pytest.fixture(scope="module")
def shapes(tiny_folder: Path) -> Checkpoint:
    return outline(tiny_folder)


@pytest.fixture(scope="module")
def shards(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    tiny.transformer.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


@pytest.mark.parametrize("part", FOLDERS)
def test_every_parameter_is_the_loaded_one(
    tiny: Checkpoint, shapes: Checkpoint, tiny_folder: Path, part: str
) -> None:
    files = PartFiles.of(tiny_folder / FOLDERS[part], shapes.modules()[part])
    parameters = dict(tiny.modules()[part].named_parameters(remove_duplicate=False))
    assert parameters
    for name, parameter in parameters.items():
        assert torch.equal(files.read(name), parameter), name


def test_shards(tiny: Checkpoint, shapes: Checkpoint, shards: Path) -> None:
    files = PartFiles.of(shards, shapes.transformer)
    for name, parameter in tiny.transformer.named_parameters():
        assert torch.equal(files.read(name), parameter), name


@pytest.mark.parametrize(
    ("part", "rename"),
    [
        ("pooled_encoder", lambda key: f"text_model.{key}"),  # as published, before transformers 5
        ("image_encoder", lambda key: f"vision_model.{key}"),
        ("text_encoder", lambda key: key.replace("shared.", "encoder.embed_tokens.")),
    ],
)
def test_other_names_of_the_same_parameters(
    tiny: Checkpoint,
    shapes: Checkpoint,
    tiny_folder: Path,
    tmp_path: Path,
    part: str,
    rename: Callable[[str], str],
) -> None:
    stored = load_file(tiny_folder / FOLDERS[part] / "model.safetensors")
    save_file({rename(key): value for key, value in stored.items()}, tmp_path / "model.safetensors")
    files = PartFiles.of(tmp_path, shapes.modules()[part])
    for name, parameter in tiny.modules()[part].named_parameters():
        assert torch.equal(files.read(name), parameter), name


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _change(**tensors: torch.Tensor | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        stored = {**load_file(folder / TRANSFORMER), **tensors}
        save_file({k: v for k, v in stored.items() if v is not None}, folder / TRANSFORMER)

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / TRANSFORMER).unlink(), "has no safetensors file; allowed: "),
        (lambda folder: _truncate(folder / TRANSFORMER), f"{TRANSFORMER} cannot be read"),
        (_change(**{"proj_out.bias": None}), "none of its safetensors files has proj_out.bias"),
        (_change(**{"proj_out.bias": torch.zeros(3)}), r"proj_out.bias is \[3\]; by its config"),
    ],
)
def test_damage_is_named(
    shapes: Checkpoint,
    tiny_folder: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    says: str,
) -> None:
    folder = tmp_path / "transformer"
    shutil.copytree(tiny_folder / FOLDERS["transformer"], folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=says):
        PartFiles.of(folder, shapes.transformer).read("proj_out.bias")


def _first(folder: Path) -> Path:
    return min(folder.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: _first(folder).unlink(), f"00001-of-.* is missing; {INDEX} lists it"),
        (lambda folder: _truncate(_first(folder)), "00001-of-.* cannot be read as safetensors"),
        (lambda folder: save_file({}, _first(folder)), "00001-of-.* lacks .*, which .* says"),
        (lambda folder: (folder / INDEX).write_text("[]"), f"{INDEX} is no index of"),
    ],
)
def test_damaged_shards_are_named(
    shapes: Checkpoint, shards: Path, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    folder = tmp_path / "transformer"
    shutil.copytree(shards, folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=says):
        PartFiles.of(folder, shapes.transformer)


@pytest.mark.parametrize(
    ("part", "values", "says"),
    [
        ("vae", {"_class_name": "Elsewhere"}, "_class_name is 'Elsewhere'; allowed: AutoencoderKL"),
        ("transformer", {"num_layers": "two"}, "its config files describe no model"),
    ],
)
def test_a_config_that_describes_no_model(
    tiny_folder: Path, tmp_path: Path, part: str, values: dict[str, object], says: str
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_folder, folder)
    path = folder / FOLDERS[part] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(CheckpointError, match=says):
        outline(folder)

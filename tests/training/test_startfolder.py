"""Training experts in what a user has: a checkpoint, parts of one, or FLUX.1-Fill's own folders."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from a2edit.model.architectures import Architecture, new_checkpoint
from a2edit.model.checkpoint import Checkpoint, folder_hash
from a2edit.runtime.errors import CheckpointError, RequestError
from a2edit.training.cli import main
from a2edit.training.data import PairFactory
from a2edit.training.datasets import DrawnScenes, write_samples
from a2edit.training.datasets.draw import export_source
from a2edit.training.flow import FlowModel, NoiseLevels
from a2edit.training.metrics import read_metrics
from a2edit.training.recipe import Recipe, toml_of
from a2edit.training.stages import BOX, FINE, ROUGH, Stage
from a2edit.training.startfolder import Wanted, start_folder
from a2edit.training.stream import Choice, batches

TINY_SETTINGS = Wanted(size=64, layout="diptych", rank=2, text_length=12)
STAGES = (
    Stage("fine", "experts", 2, 2, 1e-2, 0, 0.0, FINE),
    Stage("box", "experts", 1, 2, 1e-2, 0, 0.0, BOX),
)


@pytest.fixture(scope="module")
def complete(small: Architecture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    new_checkpoint(small, folder / "tokenizers").save(folder / "complete", torch.float32)
    return folder / "complete"


@pytest.fixture
def bare(complete: Path, tmp_path: Path) -> Path:
    """base/ and redux/ alone."""
    for name in ("base", "redux"):
        shutil.copytree(complete / name, tmp_path / "bare" / name)
    return tmp_path / "bare"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "drawn"
    write_samples(folder, export_source(DrawnScenes(), 8, 64, "train"))
    return folder


def test_a_complete_checkpoint_is_the_start(complete: Path, tmp_path: Path) -> None:
    assert start_folder(str(complete), tmp_path / "start") == (complete, False)
    with pytest.raises(RequestError, match="says size"):
        start_folder(str(complete), tmp_path / "start", wanted=Wanted(size=64))


def test_new_experts_may_be_others(complete: Path, tmp_path: Path) -> None:
    """One of them, of a rank as large as eight together, is the plain LoRA to compare with."""
    wanted = Wanted(num_experts=1, rank=16)
    with pytest.raises(RequestError, match=r"says num_experts, rank.*--new-experts"):
        start_folder(str(complete), tmp_path / "start", wanted=wanted)
    folder, _ = start_folder(str(complete), tmp_path / "start", wanted=wanted, new_experts=True)
    old, made = Checkpoint.load(complete), Checkpoint.load(folder)
    assert (made.config.num_experts, made.experts.experts, made.config.rank) == (1, 1, 16)
    assert made.config.alpha / 16 == old.config.alpha / old.config.rank
    assert made.gate.config.width == old.gate.config.width
    batch = next(batches(PairFactory(made), Choice(ROUGH, 2), workers=0))
    flow = FlowModel(made, NoiseLevels(), torch.device("cpu"))
    assert torch.equal(
        flow.route(flow.gate_logits_of(batch)), torch.ones(2, made.experts.blocks, 1)
    )


def test_an_anchor_that_would_not_exist_is_refused(complete: Path, tmp_path: Path) -> None:
    shutil.copytree(complete, tmp_path / "other")
    config = json.loads((tmp_path / "other/mot_config.json").read_text())
    (tmp_path / "other/mot_config.json").write_text(json.dumps(config | {"anchor": 3}))
    with pytest.raises(RequestError, match="give at least 4"):
        start_folder(
            str(tmp_path / "other"),
            tmp_path / "start",
            wanted=Wanted(num_experts=2),
            new_experts=True,
        )


def test_a_lone_expert_trains(complete: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(toml_of(Recipe("short", STAGES, gate_start="categories", gate_samples=16)))
    options = ["--model", complete, "--data", "drawn", "--out", tmp_path / "run"]
    options += ["--recipe", recipe, "--workers", 0, "--new-experts", "--experts", 1, "--rank", 16]
    result = _experts(*options)
    assert result.exit_code == 0, result.output
    done = Checkpoint.load(tmp_path / "run/checkpoint")
    assert all(done.experts.pair(name).B.any() for name in done.experts.linears)
    last = read_metrics(tmp_path / "run/metrics.csv")[-1]
    assert (float(last["active"]), float(last["own_entropy"])) == (1, 0)


def test_photos_belong_to_drawn_scenes(complete: Path, dataset: Path, tmp_path: Path) -> None:
    options = ["--model", complete, "--data", dataset, "--photos", tmp_path]
    result = _experts(*options, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "--data drawn" in result.stderr


def test_experts_can_be_left_aside(complete: Path, tmp_path: Path) -> None:
    folder, new = start_folder(str(complete), tmp_path / "start", new_experts=True)
    assert (folder, new) == (tmp_path / "start", True)
    old, made = Checkpoint.load(complete), Checkpoint.load(folder)
    assert made.config == old.config
    assert not torch.equal(made.experts.pairs[0].A, old.experts.pairs[0].A)  # type: ignore[arg-type]
    assert folder_hash(folder / "base") == made.config.base_hash


def test_missing_experts_start_at_no_difference(bare: Path, tmp_path: Path) -> None:
    folder, new = start_folder(str(bare), tmp_path / "start", wanted=TINY_SETTINGS)
    assert new
    checkpoint = Checkpoint.load(folder, torch.bfloat16)
    assert (checkpoint.config.size, checkpoint.config.alpha) == (64, 2.0)
    positions = checkpoint.pooled_encoder.config.max_position_embeddings
    assert checkpoint.config.pooled_length == positions < 77
    assert not any(checkpoint.experts.pair(name).B.any() for name in checkpoint.experts.linears)
    assert checkpoint.transformer.dtype == torch.bfloat16
    assert checkpoint.vae.dtype == checkpoint.gate.dtype == torch.float32
    weights = "base/transformer/diffusion_pytorch_model.safetensors"
    assert (folder / weights).samefile(bare / weights)


def test_flux_own_folders(bare: Path, tmp_path: Path) -> None:
    """CLIP's tokenizer comes without tokenizer.json, the weights a second time beside."""
    tokenizer = bare / "base/tokenizer"
    shutil.rmtree(tokenizer)
    tokenizer.mkdir()
    letters = [chr(code) for code in range(97, 123)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "c a</w>".replace(" ", "")]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (tokenizer / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\nc a</w>\n")
    (tokenizer / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    (bare / "base/flux1-fill-dev.safetensors").write_bytes(b"the same again")
    with pytest.raises(CheckpointError, match=r"lacks image_encoder.* with --redux"):
        start_folder(str(bare / "base"), tmp_path / "start", wanted=TINY_SETTINGS)
    folder, _ = start_folder(
        str(bare / "base"), tmp_path / "start", redux=bare / "redux", wanted=TINY_SETTINGS
    )
    assert not (folder / "base/flux1-fill-dev.safetensors").exists()
    ids = Checkpoint.load(folder).prompt_tokenizers()["pooled"].encode("ca")[0][0].tolist()
    assert ids[:3] == [tokens.index(t) for t in ("<|startoftext|>", "ca</w>", "<|endoftext|>")]


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no A²-Edit checkpoint"):
        start_folder("nowhere", tmp_path / "start")
    with pytest.raises(CheckpointError, match="is no diffusers FLUX"):
        start_folder(str(tmp_path), tmp_path / "start")
    assert not (tmp_path / "start").exists()


def _experts(*options: object) -> Result:
    return CliRunner().invoke(main, ["experts", *map(str, options)])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_experts_of_a_bare_model_on_a_data_set(
    bare: Path, dataset: Path, tmp_path: Path, precision: str
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(toml_of(Recipe("short", STAGES, weighted=False)))
    run = tmp_path / "run"
    options = ["--model", bare, "--data", dataset, "--out", run, "--recipe", recipe]
    options += ["--size", 64, "--layout", "diptych", "--rank", 2, "--text-length", 12]
    options += ["--precision", precision, "--workers", 0]
    result = _experts(*options)
    assert result.exit_code == 0, result.output
    done = Checkpoint.load(run / "checkpoint")
    assert all(done.experts.pair(name).B.any() for name in done.experts.linears)
    # The base is the user's own, to the byte, and takes no room of its own.
    weights = "base/transformer/diffusion_pytorch_model.safetensors"
    assert (run / "checkpoint" / weights).samefile(bare / weights)
    assert folder_hash(run / "checkpoint/base") == done.config.base_hash
    state = torch.load(run / "state.pt", weights_only=True)
    assert set(state["modules"]) == {"experts", "gate"}
    assert list((run / "sheets").glob("*-box-*.png"))
    again = _experts(*options)
    assert "taking up" in again.output


def test_a_recipe_that_would_change_the_base_is_refused(complete: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(toml_of(Recipe("base", (replace(STAGES[0], name="b", trains="base"),))))
    run = tmp_path / "run"
    result = _experts("--model", complete, "--data", "drawn", "--out", run, "--recipe", recipe)
    assert result.exit_code == 2
    assert "stays frozen here" in result.stderr
    assert not run.exists()

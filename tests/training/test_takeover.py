"""`--from`: what of a checkpoint is taken over, and what starts new."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from a2edit.model.architectures import Architecture, new_checkpoint, randomise_experts
from a2edit.model.checkpoint import Checkpoint
from a2edit.training.loop import Trainer
from a2edit.training.recipe import Recipe
from a2edit.training.settings import Start
from a2edit.training.stages import Stage
from a2edit.training.takeover import take_over

ENCODERS = {"text_encoder", "pooled_encoder"}


def _saved(architecture: Architecture, folder: Path, seed: int) -> Checkpoint:
    checkpoint = new_checkpoint(architecture, folder / "tokenizers", seed)
    randomise_experts(checkpoint, seed)
    checkpoint.save(folder / "saved", torch.float32)
    return Checkpoint.load(folder / "saved")


def test_all_but_the_specialists_of_an_equal_checkpoint(
    small: Architecture, tmp_path: Path
) -> None:
    source = _saved(small, tmp_path, seed=1)
    target = new_checkpoint(small, tmp_path / "tokenizers")
    taken = take_over(target, source, keep_experts=False)
    assert set(taken.fresh) == {"gate", "experts"}
    assert target.transformer is source.transformer
    assert target.gate is not source.gate
    assert taken.origin == source.config.base_hash != ""
    assert str(taken).startswith("taken over: transformer, ")
    kept = take_over(target, source, keep_experts=True)
    assert not kept.fresh
    assert target.experts is source.experts


def test_what_does_not_fit_starts_new(small: Architecture, tmp_path: Path) -> None:
    source = _saved(small, tmp_path, seed=1)
    other = replace(small, mot=replace(small.mot, rank=3), vision_width=32)
    target = new_checkpoint(other, tmp_path / "other")
    path = target.tokenizers["text"] / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    taken = take_over(target, source, keep_experts=True)
    assert taken.fresh == {
        "text_encoder": "other tokenizer",
        "image_encoder": "other shapes",
        "redux": "other shapes",
        "experts": "other shapes",
    }
    assert "text_encoder (other tokenizer)" in str(taken)


def test_a_run_from_a_checkpoint_starts_with_its_weights(
    tiny_trainer: Callable[..., Trainer],
    small: Architecture,
    stages: tuple[Stage, ...],
    tmp_path: Path,
) -> None:
    source = _saved(small, tmp_path, seed=1)
    before = {key: value.clone() for key, value in source.transformer.state_dict().items()}
    autoencoder = {key: value.clone() for key, value in source.vae.state_dict().items()}
    target = new_checkpoint(small, tmp_path / "tokenizers")
    taken = take_over(target, source, keep_experts=False)
    start = Start(fresh=frozenset(taken.fresh), origin=taken.origin)
    recipe = Recipe("experts", stages[2:])
    template = tiny_trainer(tmp_path / "run")
    # The experts' stage leaves the base alone, so the saved one is the source's.
    trainer = Trainer(target, recipe, replace(template.settings, save_every=2), start)
    folder = trainer.run(lambda stage, step, loss: None)
    for key, value in target.transformer.state_dict().items():
        assert torch.equal(value, before[key]), key
    for key, value in target.vae.state_dict().items():
        assert torch.equal(value, autoencoder[key]), key
    Checkpoint.load(folder)
    again = Trainer(target, recipe, template.settings, start)
    assert again.resume()
    assert again.done == {"experts": 4}

"""The whole of training at tiny size: every stage runs, resumes alike, and leaves a checkpoint."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from a2edit.model.architectures import TINY, Architecture, new_checkpoint
from a2edit.model.checkpoint import Checkpoint
from a2edit.runtime.errors import CheckpointError
from a2edit.training.data import PairFactory, batches, window_around
from a2edit.training.loop import LoopSettings, Trainer
from a2edit.training.masks import MaskMix
from a2edit.training.stages import FINE, MINI_STAGES, ROUGH, Stage

# Masks are drawn in proportion to the side; below 64 pixels the kinds have no details left.
SMALL: Architecture = replace(
    TINY,
    mot=replace(TINY.mot, size=64),
    heads=4,
    head_dim=48,
    rope_axes=(8, 20, 20),
    vision_size=16,
)
STAGES = (
    Stage("autoencoder", "autoencoder", 3, 2, 1e-3, 1, 0.5, FINE),
    Stage("base", "base", 4, 2, 1e-3, 1, 0.0, ROUGH, sides=(3,)),
    Stage("experts", "experts", 4, 2, 1e-3, 1, 0.5, FINE, balance=0.1),
)


def _trainer(folder: Path, stages: tuple[Stage, ...] = STAGES) -> Trainer:
    checkpoint = new_checkpoint(SMALL, folder / "tokenizers")
    settings = LoopSettings(folder, save_every=1, sheet_every=1000, workers=0, fit_samples=8)
    return Trainer(checkpoint, stages, settings)


def _losses(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "metrics.csv").open() as stream:
        return [(row["stage"], row["step"], row["loss"]) for row in csv.DictReader(stream)]


class _KilledError(Exception):
    pass


def test_a_killed_run_resumes_to_the_same_curve_and_checkpoint(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    target = _trainer(whole).run(lambda stage, step, loss: None)

    def kill(stage: Stage, step: int, loss: float) -> None:
        if (stage.name, step) in {("base", 3), ("experts", 2)}:
            raise _KilledError

    for _ in range(2):
        trainer = _trainer(killed)
        trainer.resume()
        with pytest.raises(_KilledError):
            trainer.run(kill)
    trainer = _trainer(killed)
    assert trainer.resume()
    again = trainer.run(lambda stage, step, loss: None)
    # The steps that a kill threw away are in the log twice, with equal losses.
    assert sorted(set(_losses(killed))) == sorted(_losses(whole))
    first, second = Checkpoint.load(target), Checkpoint.load(again)
    for name, module in first.modules().items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, second.modules()[name].state_dict()[key]), (name, key)
    assert list((whole / "sheets").glob("*.png"))


def test_each_stage_trains_its_own_part_only(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, STAGES[2:])
    before = {
        name: {key: value.clone() for key, value in module.state_dict().items()}
        for name, module in trainer.checkpoint.modules().items()
    }
    trainer.done = {"other": 1}  # so that the base keeps the weights that were just copied
    trainer.run(lambda stage, step, loss: None)
    changed = {
        name
        for name, module in trainer.checkpoint.modules().items()
        if any(not torch.equal(v, before[name][k]) for k, v in module.state_dict().items())
    }
    assert changed == {"experts", "gate"}


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    (tmp_path / "state.pt").write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match="cannot be taken up"):
        trainer.resume()


def test_batches_do_not_depend_on_where_they_start(tmp_path: Path) -> None:
    factory = PairFactory(new_checkpoint(SMALL, tmp_path))
    mix = MaskMix(fine=1.0)
    stream = batches(factory, mix, 2, workers=0, group=2)
    fifth = [next(stream) for _ in range(4)][3]
    direct = next(batches(factory, mix, 2, first=3, workers=0, group=2))
    for name in fifth.__slots__:
        assert torch.equal(getattr(fifth, name), getattr(direct, name)), name


def test_windows_hold_the_mask(tmp_path: Path) -> None:
    factory = PairFactory(new_checkpoint(SMALL, tmp_path))
    for index in range(20):
        example = factory.example(index, ROUGH, sides=(2, 3))
        mask = torch.from_numpy(example.arrays["mask"])
        cells = (mask.reshape(4, 16, 8, 16).amax((1, 3)) > 0).flatten().nonzero().flatten()
        assert set(cells.tolist()) <= set(example.window.indices(factory.config).tolist())
        target = example.arrays["mask"][:, 64:]
        assert window_around(target, 4, (2, 3)).side >= window_around(target, 4, (1, 2, 3)).side


def test_stages_of_mini_keep_the_papers_proportions() -> None:
    steps = {stage.name: stage.steps for stage in MINI_STAGES}
    assert steps["fine"] == 2 * steps["rough"] == 2 * steps["box"]

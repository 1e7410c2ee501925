"""A whole training run at tiny size."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from a2edit.model.architectures import SMALL, Architecture, new_checkpoint
from a2edit.training.loop import Trainer
from a2edit.training.recipe import Recipe
from a2edit.training.settings import LoopSettings, Start
from a2edit.training.stages import FINE, ROUGH, Stage

STAGES = (
    Stage("autoencoder", "autoencoder", 3, 2, 1e-3, 1, 0.5, FINE),
    Stage("base", "base", 4, 2, 1e-3, 1, 0.0, ROUGH, sides=(3,), semantic=0.1),
    Stage("experts", "experts", 4, 2, 1e-3, 1, 0.5, FINE, balance=0.1, sharpen=0.1),
)


def make_trainer(
    folder: Path, stages: tuple[Stage, ...] = STAGES, start: Start | None = None, **changes: Any
) -> Trainer:
    """A trainer of SMALL; `changes` are of its settings."""
    checkpoint = new_checkpoint(SMALL, folder / "tokenizers")
    settings = LoopSettings(folder, save_every=1, sheets=False, workers=0)
    settings = replace(settings, fit_samples=8)
    return Trainer(
        checkpoint, Recipe("tiny", stages, gate_samples=16), replace(settings, **changes), start
    )


@pytest.fixture(scope="session")
def small() -> Architecture:
    return SMALL


@pytest.fixture(scope="session")
def stages() -> tuple[Stage, ...]:
    return STAGES


@pytest.fixture(scope="session")
def tiny_trainer() -> Callable[..., Trainer]:
    return make_trainer


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of STAGES that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    make_trainer(folder, sheets=True).run(lambda stage, step, loss: None)
    return folder

"""A tiny checkpoint of the real classes, with experts and a gate that do something."""

from pathlib import Path

import pytest

from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts
from a2edit.model.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    checkpoint = new_checkpoint(TINY, tmp_path_factory.mktemp("tokenizers"))
    randomise_experts(checkpoint)
    return checkpoint


@pytest.fixture(scope="session")
def tiny_folder(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    tiny.save(folder, torch.float32)
    return folder

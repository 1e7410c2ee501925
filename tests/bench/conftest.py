"""What several benches are run on."""

from pathlib import Path

import pytest
import torch

from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts


@pytest.fixture
def tiny_model(tmp_path: Path) -> str:
    """The folder of a small checkpoint with random weights, whose gate is not undecided."""
    checkpoint = new_checkpoint(TINY, tmp_path / "tokenizers")
    randomise_experts(checkpoint)
    torch.manual_seed(1)
    torch.nn.init.normal_(checkpoint.gate.heads.weight, std=2.0)
    checkpoint.save(tmp_path / "model")
    return str(tmp_path / "model")

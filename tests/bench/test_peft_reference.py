"""The papers' set-up and ours are one function, edit for edit."""

from pathlib import Path

import numpy as np
import torch

from a2edit.bench.peft_reference import PeftPipeline
from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.pipeline import A2EditPipeline
from a2edit.runtime.request import EditRequest


def test_peft_edits_alike(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(TINY, tmp_path / "tokenizers")
    randomise_experts(checkpoint)
    folder = tmp_path / "tiny"
    checkpoint.save(folder, torch.float32)
    rng = np.random.default_rng(0)
    request = EditRequest(
        image=rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
        boxes=["20,20,44,44"],
        reference=rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
    )
    ours = A2EditPipeline(Checkpoint.load(folder)).edit(request)
    theirs = PeftPipeline(folder).edit(request)
    assert 0 < (ours.gate_weights > 0).mean() < 1, "some experts active, some not"
    np.testing.assert_allclose(theirs.gate_weights, ours.gate_weights)
    difference = np.asarray(ours.image).astype(int) - np.asarray(theirs.image)
    assert np.abs(difference).max() <= 1

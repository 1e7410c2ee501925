"""Throughput is measured over real steps."""

from dataclasses import replace
from pathlib import Path

from a2edit.bench.training import measure_training
from a2edit.model.architectures import TINY, new_checkpoint
from a2edit.training.stages import FINE, Stage

SMALL = replace(
    TINY,
    mot=replace(TINY.mot, size=64),
    heads=4,
    head_dim=48,
    rope_axes=(8, 20, 20),
    vision_size=16,
)
STAGES = (
    Stage("base", "base", 1, 2, 1e-3, 1, 0.0, FINE, (3,)),
    Stage("fine", "experts", 1, 2, 1e-3, 1, 0.0, FINE, (3,)),
)


def test_every_configuration_takes_its_steps(tmp_path: Path) -> None:
    new_checkpoint(SMALL, tmp_path / "tokenizers").save(tmp_path / "model")
    rates = measure_training(str(tmp_path / "model"), 4, STAGES)
    assert len(rates) == 7
    assert all(len(found) == 3 and min(found) > 0 for found in rates.values())

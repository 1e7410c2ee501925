"""Throughput is measured over real steps."""

from pathlib import Path

from a2edit.bench.training import measure_training
from a2edit.model.architectures import SMALL, new_checkpoint
from a2edit.training.stages import FINE, Stage

STAGES = (
    Stage("base", "base", 1, 2, 1e-3, 1, 0.0, FINE, (3,)),
    Stage("fine", "experts", 1, 2, 1e-3, 1, 0.0, FINE, (3,)),
)


def test_every_configuration_takes_its_steps(tmp_path: Path) -> None:
    new_checkpoint(SMALL, tmp_path / "tokenizers").save(tmp_path / "model")
    rates = measure_training(str(tmp_path / "model"), 4, STAGES)
    assert len(rates) == 7
    assert all(len(found) == 3 and min(found) > 0 for found in rates.values())

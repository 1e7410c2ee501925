"""Training throughput by configuration: real steps of the base and of the experts, interleaved."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from a2edit.model.checkpoint import Checkpoint
from a2edit.training.loop import Trainer
from a2edit.training.metrics import read_metrics
from a2edit.training.recipe import Recipe
from a2edit.training.settings import LoopSettings, Start
from a2edit.training.stages import MINI_STAGES, Stage


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to run a stage of the recipe."""

    name: str
    stage: Stage
    settings: LoopSettings


def configurations(folder: Path, stages: tuple[Stage, ...]) -> list[Configuration]:
    """The recipe's base and first experts' stage, and what single switches change about them."""
    base = next(stage for stage in stages if stage.trains == "base")
    experts = next(stage for stage in stages if stage.trains == "experts")
    plain = LoopSettings(folder, sheets=False, workers=1)
    half = replace(plain, precision="bf16")
    cases = (
        ("base, fp32, AdamW", replace(base, optimiser="adamw"), plain),
        ("base, bf16, AdamW", replace(base, optimiser="adamw"), half),
        ("base, bf16, Muon", replace(base, optimiser="muon"), half),
        ("base, bf16, Muon, whole canvas", replace(base, optimiser="muon", sides=()), half),
        ("base, bf16, Muon, recomputing", replace(base, optimiser="muon"),
         replace(half, checkpointing=True)),
        ("experts, fp32", experts, plain),
        ("experts, bf16", experts, half),
    )  # fmt: skip
    return [Configuration(*case) for case in cases]


def measure_training(
    model: str,
    steps: int,
    stages: tuple[Stage, ...] = MINI_STAGES,
    progress: Callable[[str, int], None] = lambda *_: None,
) -> dict[str, list[float]]:
    """Samples a second of every step but each visit's first, by configuration.

    Args:
        model: a checkpoint's name or folder; every configuration starts from it.
        steps: of every configuration, in visits of four that take turns.
        stages: a recipe with a stage for the base and one for the experts.
        progress: told the configuration and its steps so far.
    """
    with tempfile.TemporaryDirectory() as scratch:
        found = configurations(Path(scratch), stages)
        for visit in range(4, steps + 4, 4):
            for place, one in enumerate(found):
                settings = replace(one.settings, folder=Path(scratch, str(place)), save_every=10**9)
                checkpoint = Checkpoint.load(model)
                start = Start(fresh=frozenset(), origin=checkpoint.config.base_hash)
                stage = replace(one.stage, steps=visit)
                trainer = Trainer(
                    checkpoint, Recipe("throughput", (stage,), gate_samples=16), settings, start
                )
                trainer.resume()
                trainer.run(lambda *_: None)
                progress(one.name, visit)
        return {
            one.name: [
                float(row["samples_per_second"])
                for row in read_metrics(Path(scratch, str(place), "metrics.csv"))
                if int(row["step"]) % 4
            ]
            for place, one in enumerate(found)
        }

"""How a run behaves, and what it begins with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from a2edit.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How a run behaves, beside what it learns.

    Attributes:
        folder: of the run: state.pt, metrics.csv, metrics.png, sheets/, checkpoint/.
        seed: of weights, noise and samples.
        precision: "bf16" runs the transformer and the encoders under autocast; weights that are
            trained, their averages and the optimiser stay fp32.
        ema: decay a step of the averaged weights, which are the ones that are kept; 0: none.
        clip: norm that gradients are clipped to.
        accumulate: pieces that a process's share of a batch is cut into.
        checkpointing: recompute blocks in the backward pass instead of keeping their insides.
        save_every, sheet_every, log_every: steps.
        sheets: draw contact sheets; without, `sheet_every` still writes plot and checkpoint.
        workers: processes that draw samples, for every training process.
        fit_samples: samples that the autoencoder's linear part is fitted to.
    """

    folder: Path
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    ema: float = 0.998
    clip: float = 1.0
    accumulate: int = 1
    checkpointing: bool = False
    save_every: int = 100
    sheet_every: int = 500
    log_every: int = 1
    sheets: bool = True
    workers: int = 1
    fit_samples: int = 300


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with.

    Attributes:
        fresh: modules that start new, by their name in `Checkpoint.modules`; None: all.
        origin: of the other modules: their checkpoint's base hash, "" if there are none.
        write: writes `checkpoint/`; by default `Checkpoint.save`.
    """

    fresh: frozenset[str] | None = None
    origin: str = ""
    write: Callable[[Checkpoint, Path], None] = Checkpoint.save


def new_accelerator(settings: LoopSettings) -> Accelerator:
    """What places, wraps, clips and gathers: for one process, or those of `accelerate launch`."""
    # Accelerate keeps one precision a process; runs that follow one another may differ in it.
    AcceleratorState._reset_state()  # noqa: SLF001 - its own tests do the same
    return Accelerator(
        mixed_precision="bf16" if settings.precision == "bf16" else "no",
        gradient_accumulation_steps=settings.accumulate,
        # The image encoder's pooling head and the autoencoder's encoder take no part in a loss.
        kwargs_handlers=[
            DistributedDataParallelKwargs(
                find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True
            )
        ],
    )

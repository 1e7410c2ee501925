"""The training loop: stages in order, EMA, metrics, contact sheets, a stop that loses nothing."""

from __future__ import annotations

import csv
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import eject, inject
from a2edit.runtime.errors import CheckpointError
from a2edit.training.autoencoder import autoencoder_loss, fit_autoencoder
from a2edit.training.data import PairFactory, batches
from a2edit.training.flow import FlowModel, NoiseLevels
from a2edit.training.init import spread_gate, start_transformer
from a2edit.training.sheet import draw_sheet
from a2edit.training.stages import Stage

# Index of the first batch that the gate's start is measured on; stages begin at millions.
_GATE_SAMPLES = 20_000

_UNREADABLE = (
    OSError,
    RuntimeError,
    KeyError,
    TypeError,
    ValueError,
    EOFError,
    pickle.UnpicklingError,
)

_TRAINED = {
    "autoencoder": ("vae",),
    "base": ("transformer", "text_encoder", "pooled_encoder", "image_encoder", "redux"),
    "experts": ("experts", "gate"),
}


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How a run behaves, beside what it learns.

    Attributes:
        folder: of the run: state.pt, metrics.csv, sheets/, checkpoint/.
        seed: of weights, noise and samples.
        ema: decay a step of the averaged weights, which are the ones that are kept.
        clip: norm that gradients are clipped to.
        save_every, sheet_every: steps.
        workers: processes that draw samples.
        fit_samples: drawings that the autoencoder's linear part is fitted to.
    """

    folder: Path
    seed: int = 0
    ema: float = 0.998
    clip: float = 1.0
    save_every: int = 100
    sheet_every: int = 500
    workers: int = 1
    fit_samples: int = 300


class Trainer:
    """Runs stages over one checkpoint; `state.pt` holds all that is needed to go on."""

    def __init__(
        self, checkpoint: Checkpoint, stages: tuple[Stage, ...], settings: LoopSettings
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.checkpoint, self.stages, self.settings = checkpoint, stages, settings
        self.factory = PairFactory(checkpoint)
        self.flow = FlowModel(checkpoint, NoiseLevels(), self.device)
        self.done: dict[str, int] = {}  # steps finished, by stage
        # Optimiser and averages of the stage under way, with its name.
        self.pending: dict[str, Any] = {"stage": ""}
        settings.folder.mkdir(parents=True, exist_ok=True)

    # -- state -----------------------------------------------------------------------------------

    @property
    def _state_path(self) -> Path:
        return self.settings.folder / "state.pt"

    def resume(self) -> bool:
        """Take up what an earlier run left; False when there is nothing."""
        if not self._state_path.exists():
            return False
        try:
            state = torch.load(self._state_path, map_location="cpu", weights_only=True)
            for name, module in self.checkpoint.modules().items():
                module.load_state_dict(state["modules"][name])
            self.done, self.pending = state["done"], state["pending"]
        except _UNREADABLE as error:
            raise CheckpointError(
                f"{self._state_path} cannot be taken up: {error}. "
                "Give another --out, or --restart to begin anew"
            ) from error
        return True

    def _save(self, stage: Stage, optimiser: torch.optim.Optimizer, average: list[Tensor]) -> None:
        state = {
            "modules": {k: m.state_dict() for k, m in self.checkpoint.modules().items()},
            "done": self.done,
            "pending": {
                "stage": stage.name,
                "optimiser": optimiser.state_dict(),
                "average": average,
            },
        }
        work = self._state_path.with_suffix(".tmp")
        torch.save(state, work)
        work.replace(self._state_path)

    # -- running ---------------------------------------------------------------------------------

    def run(self, progress: Callable[[Stage, int, float], None]) -> Path:
        """Train what is left of every stage and write `checkpoint/`; returns that folder."""
        if not self.done:
            torch.manual_seed(self.settings.seed)
            config = self.checkpoint.config
            columns = config.size // 16 if config.layout == "diptych" else 0
            start_transformer(self.checkpoint.transformer, columns)
            fit_autoencoder(self.checkpoint.vae, self.factory, self.settings.fit_samples)
        for module in self.checkpoint.modules().values():
            module.to(self.device)
        self.flow.graphs["dit"].to(self.device)
        for stage in self.stages:
            if self.done.get(stage.name, 0) < stage.steps:
                self._stage(stage, progress)
        return self._write_checkpoint()

    def _write_checkpoint(self) -> Path:
        target = self.settings.folder / "checkpoint"
        self.checkpoint.save(target)
        return target

    def _stage(self, stage: Stage, progress: Callable[[Stage, int, float], None]) -> None:
        modules = self.checkpoint.modules()
        trained = [modules[name] for name in _TRAINED[stage.trains]]
        parameters = [p for module in trained for p in module.requires_grad_(True).parameters()]
        optimiser = torch.optim.AdamW(
            _weight_decay_groups(parameters), lr=stage.rate, betas=(0.9, 0.98), fused=True
        )
        average = [parameter.detach().clone() for parameter in parameters]
        first = self.done.get(stage.name, 0)
        if stage.trains == "experts" and not self._experts_began():
            self._spread_gate(stage)
        if first and self.pending.get("stage") == stage.name:
            optimiser.load_state_dict(self.pending["optimiser"])
            average = [kept.to(self.device) for kept in self.pending["average"]]
        transformer = self.checkpoint.transformer
        if self.device.type == "cpu":
            # On a CPU, at these lengths, the fused kernel's backward is the slower one.
            transformer.set_attention_backend("_native_math")
        if stage.trains == "experts":
            inject(transformer, self.checkpoint.experts)
        try:
            self._steps(stage, first, parameters, optimiser, average, progress)
        finally:
            if stage.trains == "experts":
                self.checkpoint.experts.weights = None
                eject(transformer, self.checkpoint.experts)
            transformer.reset_attention_backend()
            for module in trained:
                module.requires_grad_(False)
        with torch.no_grad():
            torch._foreach_copy_(list[Tensor](parameters), average)
        self._save(stage, optimiser, average)

    def _target(self, canvas: Tensor) -> Tensor:
        """The target panel u8 [B, S, S, 3] of a canvas: the only one that is ever decoded."""
        return canvas[:, :, -self.checkpoint.config.size :]

    def _experts_began(self) -> bool:
        return any(self.done.get(s.name, 0) for s in self.stages if s.trains == "experts")

    def _spread_gate(self, stage: Stage) -> None:
        """Rescale the gate by its logits on samples that no stage trains on."""
        samples = batches(self.factory, stage.masks, 16, first=_GATE_SAMPLES, workers=0)
        logits = [self.flow.gate_logits_of(next(samples).to(self.device)) for _ in range(8)]
        spread_gate(self.checkpoint.gate, torch.cat(logits))

    def _steps(
        self,
        stage: Stage,
        first: int,
        parameters: list[nn.Parameter],
        optimiser: torch.optim.Optimizer,
        average: list[Tensor],
        progress: Callable[[Stage, int, float], None],
    ) -> None:
        settings = self.settings
        offset = sum(1_000_000 * (place + 1) for place, s in enumerate(self.stages) if s is stage)
        # A multiple of every batch size's group, so that stages never share samples.
        samples = batches(
            self.factory,
            stage.masks,
            stage.batch,
            first=offset // stage.batch // 4 * 4 + first,
            sides=stage.sides,
            workers=settings.workers,
        )
        for step in range(first, stage.steps):
            began = time.perf_counter()
            for group in optimiser.param_groups:
                group["lr"] = stage.rate * _rate(stage, step)
            batch = next(samples).to(self.device)
            # After the batch: a loader draws from torch's generator when it starts, and a resumed
            # run starts one in the middle of the curve.
            torch.manual_seed(settings.seed * 1_000_003 + offset + step)
            extra: dict[str, float] = {}
            if stage.trains == "autoencoder":
                loss = autoencoder_loss(self.checkpoint.vae, self._target(batch.canvas))
            else:
                loss, logits = self.flow.loss(batch, experts=stage.trains == "experts")
                if logits is not None:
                    extra = _gate_figures(self.flow.route(logits.detach()))
                    loss = loss + stage.balance * _imbalance(logits)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, settings.clip)
            optimiser.step()
            # A young average follows closely, so that it forgets the start.
            decay = min(settings.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(average, list[Tensor](parameters), 1 - decay)
            self.done[stage.name] = step + 1
            self._log(stage, step, loss.item(), norm.item(), time.perf_counter() - began, extra)
            progress(stage, step + 1, loss.item())
            last = step + 1 == stage.steps
            if (step + 1) % settings.sheet_every == 0 or last:
                with _Swapped(parameters, average):
                    self._sheet(stage, step + 1)
                    self._write_checkpoint()
            # The last step is saved by the stage, once the averages are in place: a state that
            # calls a stage done holds its averaged weights.
            if (step + 1) % settings.save_every == 0 and not last:
                self._save(stage, optimiser, average)

    def _sheet(self, stage: Stage, step: int) -> None:
        name = f"{len(self.done):02d}-{stage.name}-{step:06d}.png"
        draw_sheet(
            self.checkpoint,
            self.factory,
            self.settings.folder / "sheets" / name,
            experts=stage.trains == "experts",
        )

    def _log(
        self,
        stage: Stage,
        step: int,
        loss: float,
        norm: float,
        seconds: float,
        extra: dict[str, float],
    ) -> None:
        path = self.settings.folder / "metrics.csv"
        fields = ["stage", "step", "loss", "norm", "seconds", "active", "entropy", "spread"]
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fields, restval="")
            if new:
                writer.writeheader()
            row: dict[str, Any] = {"stage": stage.name, "step": step}
            figures = {"loss": loss, "norm": norm, "seconds": seconds, **extra}
            writer.writerow(row | {key: f"{value:.5g}" for key, value in figures.items()})


def _weight_decay_groups(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Matrices decay; biases and norms do not."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _rate(stage: Stage, step: int) -> float:
    rise = min(1.0, (step + 1) / max(1, stage.warmup))
    tail = stage.decay * stage.steps
    fall = min(1.0, (stage.steps - step) / tail) if tail else 1.0
    return rise * fall


def _imbalance(logits: Tensor) -> Tensor:
    """How far the batch's mean gate table is from even: KL(mean ‖ uniform), mean over blocks."""
    mean = torch.softmax(logits, -1).mean(0)
    return (mean * (mean * mean.shape[-1]).log()).sum(-1).mean()


def _gate_figures(weights: Tensor) -> dict[str, float]:
    """Active experts a block, entropy of their mean use, spread of tables between samples."""
    use = weights.mean((0, 1))
    use = use / use.sum()
    return {
        "active": (weights > 0).float().sum(-1).mean().item(),
        "entropy": -(use * use.clamp_min(1e-9).log()).sum().item() / float(np.log(len(use))),
        "spread": weights.std(0).mean().item(),
    }


class _Swapped:
    """The averaged weights in the model's place, for as long as the block runs."""

    def __init__(self, parameters: list[nn.Parameter], average: list[Tensor]) -> None:
        self.parameters, self.average = parameters, average

    def _swap(self) -> None:
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.average, strict=True):
                kept = parameter.detach().clone()
                parameter.copy_(average)
                average.copy_(kept)

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()


def stages_left(stages: tuple[Stage, ...], done: dict[str, int]) -> Iterator[tuple[Stage, int]]:
    """Stages with the steps they still need."""
    for stage in stages:
        if (left := stage.steps - done.get(stage.name, 0)) > 0:
            yield stage, left

"""One stage under way: objective, optimiser and average, and the step that moves them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import Tensor

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import eject, inject
from a2edit.training.average import Average
from a2edit.training.data import Batch
from a2edit.training.flow import FlowModel, Noise
from a2edit.training.objective import Objective, Piece
from a2edit.training.optimiser import new_optimiser
from a2edit.training.specialise import carries, gate_figures, gate_penalty
from a2edit.training.stages import Stage
from a2edit.training.stream import Share, rows_of


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step did, over all processes: mean loss, gradient norm, figures of the gate."""

    loss: float
    norm: float
    gate: dict[str, float]
    stop: int  # the signal that some process was sent, 0 for none


class StageRun:
    """Everything that a stage needs beside its samples.

    While it is entered, experts are injected and trained modules take gradients. A step's batch
    is cut over processes, and each process's share into `accumulate` pieces; the sums are weighed
    so that the result does not depend on the cutting.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        checkpoint: Checkpoint,
        flow: FlowModel,
        stage: Stage,
        *,
        ema: float,
        clip: float,
        checkpointing: bool,
    ) -> None:
        self.accelerator, self.checkpoint, self.stage = accelerator, checkpoint, stage
        self.flow, self.clip, self.checkpointing = flow, clip, checkpointing
        self.share = Share(accelerator.process_index, accelerator.num_processes)
        self.objective = Objective(checkpoint, flow, stage)
        self.parameters = self.objective.learning()
        self.average = Average(self.parameters, ema)
        self._injected = _with_experts(checkpoint, stage)
        optimiser = new_optimiser(stage, self.parameters, checkpoint.transformer, checkpoint.gate)
        # From here on the objective's forward runs under autocast, and in DDP's wrapper if there
        # are several processes.
        self.model, self.optimiser = accelerator.prepare(self.objective, optimiser)

    def __enter__(self) -> Self:
        transformer = self.checkpoint.transformer
        if self.checkpointing:
            transformer.enable_gradient_checkpointing()
        inject(transformer, self.checkpoint.experts, self._injected)
        return self

    def __exit__(self, *_: object) -> None:
        transformer = self.checkpoint.transformer
        self.checkpoint.experts.weights = None
        eject(transformer, self.checkpoint.experts, self._injected)
        if self.checkpointing:
            transformer.disable_gradient_checkpointing()
        self.objective.freeze()
        self.accelerator.free_memory()

    @contextmanager
    def ejected(self) -> Iterator[None]:
        """Experts beside the transformer, as a checkpoint and a state have them."""
        bank = self.checkpoint.experts
        weights, bank.weights = bank.weights, None
        eject(self.checkpoint.transformer, bank, self._injected)
        try:
            yield
        finally:
            inject(self.checkpoint.transformer, bank, self._injected)
            bank.weights = weights

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """The checkpoint as it is kept: ejected, and with averaged weights."""
        with self.ejected(), self.average.in_place():
            yield

    def load(self, optimiser: dict[str, Any], average: list[Tensor]) -> None:
        """Take up what an earlier run left of this stage."""
        self.optimiser.load_state_dict(optimiser)
        self.average.load(average)

    def step(self, step: int, batch: Batch, received: int) -> Stepped:
        """Learn from this process's rows of step 0, 1, …; noise is torch's generator's.

        `received` is the signal that this process was sent, 0 for none.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.stage.rate_at(step) * group.get("share", 1.0)
        pieces = self._pieces(batch)
        loss, norm, logits = torch.zeros((), device=self.flow.device), 0.0, []
        for piece in pieces:
            with self.accelerator.accumulate(self.model):
                part, table = self.model(piece)
                if table is not None:
                    part = part + gate_penalty(self._with_others(table), self.stage)
                    logits.append(table.detach())
                self.accelerator.backward(part)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.parameters, self.clip).item()
                self.optimiser.step()
                self.optimiser.zero_grad()
            loss += part.detach() / len(pieces)
        self.average.update(step)
        told = torch.stack([loss, torch.tensor(float(received), device=loss.device)])[None]
        heard = self.accelerator.gather(told)
        return Stepped(heard[:, 0].mean().item(), norm, self._gate(logits), int(heard[:, 1].max()))

    def _pieces(self, rows: Batch) -> list[Piece]:
        """The process's rows in equal pieces, with their part of the whole batch's noise."""
        count, tokens = rows.tokens.shape
        cuts = self.accelerator.gradient_accumulation_steps
        whole = self.objective.noise(self.stage.batch, tokens)
        mine = self.share.rows(self.stage.batch)
        noise = Noise(whole.sigma[mine], whole.values[mine])
        total = self.accelerator.reduce(self.objective.weight(rows), "sum")
        total = total / (cuts * self.share.count)
        size = count // cuts
        slices = [slice(start, start + size) for start in range(0, count, size)]
        return [
            Piece(rows_of(rows, cut), Noise(noise.sigma[cut], noise.values[cut]), total)
            for cut in slices
        ]

    def _with_others(self, logits: Tensor) -> Tensor:
        """Every process's logits; a gradient flows to this one's, and DDP joins the gradients."""
        if self.share.count == 1:
            return logits
        everyone = self.accelerator.gather(logits.detach())
        before, after = self.share.rank * len(logits), (self.share.rank + 1) * len(logits)
        whole = torch.cat([everyone[:before], logits, everyone[after:]])
        # DDP averages over processes what each contributes a part of: the gradient counts
        # `count`-fold, the value once.
        count = self.share.count
        return count * whole - (count - 1) * whole.detach()

    @torch.no_grad()
    def _gate(self, logits: list[Tensor]) -> dict[str, float]:
        if not logits:
            return {}
        table = self.accelerator.gather(torch.cat(logits))
        return gate_figures(table, self.flow.route(table))


def _with_experts(checkpoint: Checkpoint, stage: Stage) -> list[str]:
    """Linears that need their experts in this stage: those that learn, or have learnt before."""
    if stage.trains != "experts":
        return []
    bank = checkpoint.experts
    return [
        name
        for name in bank.linears
        if carries(name, stage.experts_on) or bool(bank.pair(name).B.any())
    ]

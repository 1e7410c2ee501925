"""Optimisers of a stage: AdamW, or Muon for the matrices of blocks beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from a2edit.training.stages import Stage

_BETAS, _DECAY = (0.9, 0.98), 0.01
# Newton-Schulz iterations: one less than Muon's own choice, for a fifth less of its time.
_ITERATIONS = 4


def new_optimiser(
    stage: Stage, parameters: list[nn.Parameter], blocks: nn.Module, gate: nn.Module
) -> torch.optim.Optimizer:
    """The optimiser of a stage over parameters.

    Args:
        stage: says which, and at what rate; Muon's updates are scaled to AdamW's size.
        parameters: what learns.
        blocks: the transformer, whose blocks' matrices Muon is for.
        gate: gets a group of its own, whose "share" of the rate it learns at, without decay.
    """
    apart = {id(parameter) for parameter in gate.parameters()}
    slow = [parameter for parameter in parameters if id(parameter) in apart]
    rest = [parameter for parameter in parameters if id(parameter) not in apart]
    optimiser = _optimiser(stage.optimiser, rest, stage.rate, blocks)
    if slow:
        optimiser.add_param_group({"params": slow, "weight_decay": 0.0, "share": stage.gate_rate})
    return optimiser


def _optimiser(
    name: str, parameters: list[nn.Parameter], rate: float, blocks: nn.Module
) -> torch.optim.Optimizer:
    if name == "adamw":
        return _adamw(parameters, rate)
    hidden = {
        id(parameter)
        for key, parameter in blocks.named_parameters()
        if parameter.ndim == 2 and "transformer_blocks." in key
    }
    matrices = [parameter for parameter in parameters if id(parameter) in hidden]
    rest = [parameter for parameter in parameters if id(parameter) not in hidden]
    return MuonAdamW(matrices, rest, rate) if matrices else _adamw(parameters, rate)


def _adamw(parameters: list[nn.Parameter], rate: float) -> torch.optim.AdamW:
    """Matrices decay; biases and norms do not."""
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": _DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=_BETAS, fused=True)


class MuonAdamW(torch.optim.Optimizer):
    """Muon and AdamW behind one optimiser's interface."""

    def __init__(self, matrices: list[nn.Parameter], rest: list[nn.Parameter], rate: float) -> None:
        self.muon = torch.optim.Muon(
            matrices,
            lr=rate,
            weight_decay=_DECAY,
            momentum=0.95,
            ns_steps=_ITERATIONS,
            adjust_lr_fn="match_rms_adamw",
        )
        self.adam = _adamw(rest, rate)
        # The very dictionaries of the two, so that a rate set here is theirs.
        super().__init__([*self.adam.param_groups, *self.muon.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        self.adam.step()
        self.muon.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"adam": self.adam.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.adam.load_state_dict(state_dict["adam"])
        self.muon.load_state_dict(state_dict["muon"])
        self.param_groups = [*self.adam.param_groups, *self.muon.param_groups]

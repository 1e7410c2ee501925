"""`state.pt`: all that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from a2edit.runtime.errors import CheckpointError

_UNREADABLE = (
    OSError,
    RuntimeError,
    KeyError,
    TypeError,
    ValueError,
    EOFError,
    pickle.UnpicklingError,
)


@dataclass(slots=True)
class RunState:
    """Where a run stands.

    Attributes:
        done: steps finished, by stage.
        stage: the stage under way, "" before the first.
        optimiser: its state.
        average: running averages of what the stage trains, in the parameters' order.
        origin: base hash of the checkpoint that the run started from, "" for one from nothing.
    """

    done: dict[str, int] = field(default_factory=dict)
    stage: str = ""
    optimiser: dict[str, Any] = field(default_factory=dict)
    average: list[Tensor] = field(default_factory=list)
    origin: str = ""

    def save(self, path: Path, modules: dict[str, nn.Module], accelerator: Accelerator) -> None:
        """Write it with the weights of `modules`, by the main process: whole or not at all."""
        state = {
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "done": self.done,
            "origin": self.origin,
            "pending": {
                "stage": self.stage,
                "optimiser": self.optimiser,
                "average": self.average,
            },
        }
        work = path.with_suffix(".tmp")
        accelerator.save(state, work)
        if accelerator.is_main_process:
            work.replace(path)
        accelerator.wait_for_everyone()

    @classmethod
    def load(cls, path: Path, modules: dict[str, nn.Module], origin: str) -> Self:
        """Read a state, and put the weights it holds into `modules`.

        Raises:
            CheckpointError: the file is damaged, belongs to another architecture, or to a run
                that started from another checkpoint.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            for name, module in modules.items():
                module.load_state_dict(state["modules"][name])
            pending, found = state["pending"], state.get("origin", "")
            read = cls(
                state["done"], pending["stage"], pending["optimiser"], pending["average"], found
            )
        except _UNREADABLE as error:
            raise CheckpointError(
                f"{path} cannot be taken up: {error}. "
                "Give another --out, or --restart to begin anew"
            ) from error
        if found != origin:
            raise CheckpointError(
                f"{path} cannot be taken up: its run started from {_named(found)}, this one from "
                f"{_named(origin)}. Give the options it was started with, another --out, "
                "or --restart to begin anew"
            )
        return read


def _named(origin: str) -> str:
    return f"the checkpoint with base {origin[:16]}…" if origin else "nothing"

"""The papers' own set-up: diffusers in eager mode, with PEFT's LoRA layers scaled by the gate.

The project's reference stacks a linear's experts into one branch; PEFT runs one branch an adapter.
Both are exact, so both are baselines.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft import PeftModel
from torch import Tensor

from a2edit.bench.peft_experts import activate, layers_of
from a2edit.model.checkpoint import Checkpoint, find_checkpoint
from a2edit.model.experts import routed_linears
from a2edit.model.pipeline import A2EditPipeline


class PeftPipeline(A2EditPipeline):
    """The reference pipeline with a checkpoint's experts as PEFT adapters "0" to "N-1".

    PEFT's scales are of the module, so a batch holds one request.
    """

    def __init__(self, model: str | Path) -> None:
        folder = find_checkpoint(model)
        checkpoint = Checkpoint.load(folder)
        linears = routed_linears(checkpoint.transformer)
        names = [str(expert) for expert in range(checkpoint.config.num_experts)]
        experts = [folder / f"experts/expert_{int(name):02d}" for name in names]
        # PEFT puts its layers into the transformer itself, which the graphs share.
        peft = PeftModel.from_pretrained(checkpoint.transformer, experts[0], names[0])
        for name, expert in zip(names[1:], experts[1:], strict=True):
            peft.load_adapter(expert, name)
        peft.eval()
        super().__init__(checkpoint)
        self._layers = layers_of(checkpoint, linears)

    @contextmanager
    def experts(self, weights: Tensor) -> Iterator[None]:
        """Run the transformer with its experts at gate weights [1, L, N]."""
        activate(self._layers, weights[0])
        yield

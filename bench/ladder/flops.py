"""How much arithmetic a step is, counted on tensors that have no bytes."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from a2edit.model.graphs import DitGraph
from a2edit.model.weightless import fake_checkpoint, shapes_of, without_memory


@dataclass(frozen=True, slots=True)
class Flops:
    """Of one step, two a product's multiplication; norms, activations, softmax are not counted.

    Attributes:
        linear: of products with weights, experts merged.
        attention: of products between tokens.
    """

    linear: float
    attention: float

    @property
    def all(self) -> float:
        return self.linear + self.attention


def step_flops(model: str | Path) -> Flops:
    """Of one step at the model's own size; `model` is a checkpoint or "flux-fill"."""
    with without_memory(), torch.no_grad():
        checkpoint = fake_checkpoint(shapes_of(model), torch.float32)
        dit = DitGraph(checkpoint)
        counter = FlopCounterMode(display=False)
        # attention as plain products: what a processor runs in their place is not counted
        with counter, sdpa_kernel(SDPBackend.MATH):
            dit(*dit.example_inputs())
    by_operator = {str(name): float(it) for name, it in counter.get_flop_counts()["Global"].items()}
    attention = sum(it for name, it in by_operator.items() if name.endswith("bmm"))
    return Flops(sum(by_operator.values()) - attention, attention)

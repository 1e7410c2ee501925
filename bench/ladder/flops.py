"""How much arithmetic a step is, counted on tensors that have no bytes."""

from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from a2edit.model.graphs import DitGraph
from a2edit.model.weightless import fake_checkpoint, shapes_of, without_memory


def step_flops(model: str | Path) -> float:
    """Of one step at the model's own size, experts merged: two a product's multiplication.

    `model` is a checkpoint or "flux-fill". Norms, activations and softmax are not counted.
    """
    with without_memory(), torch.no_grad():
        checkpoint = fake_checkpoint(shapes_of(model), torch.float32)
        dit = DitGraph(checkpoint)
        counter = FlopCounterMode(display=False)
        # attention as plain products: what a processor runs in their place is not counted
        with counter, sdpa_kernel(SDPBackend.MATH):
            dit(*dit.example_inputs())
    return float(counter.get_total_flops())

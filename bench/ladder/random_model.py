"""A whole model with random weights, made where it runs: nothing is read, nothing is copied."""

from __future__ import annotations

import torch
from torch import nn

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.weightless import Shapes, fake_checkpoint, without_weights

STD = 0.02


def random_model(shapes: Shapes, device: torch.device, dtype: torch.dtype, seed: int) -> Checkpoint:
    """Matrices normal with σ = 0.02, norms 1, biases 0, all in `dtype`.

    Times and memory do not depend on weights. Pictures do: there are none to look at.
    """
    with without_weights():
        checkpoint = fake_checkpoint(shapes, dtype)
    random = torch.Generator(device).manual_seed(seed)
    for module in checkpoint.modules().values():
        _fill(module, device, dtype, random)
    return checkpoint


def _fill(
    root: nn.Module, device: torch.device, dtype: torch.dtype, random: torch.Generator
) -> None:
    made: dict[int, nn.Parameter] = {}  # tied parameters stay tied
    for module in root.modules():
        for name, fake in list(module.named_parameters(recurse=False)):
            if id(fake) not in made:
                real = torch.empty(fake.shape, dtype=dtype, device=device)
                if real.ndim > 1:
                    real.normal_(0, STD, generator=random)
                else:
                    real.fill_(1 if name == "weight" else 0)
                made[id(fake)] = nn.Parameter(real, requires_grad=False)
            setattr(module, name, made[id(fake)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            wanted = dtype if buffer.is_floating_point() else buffer.dtype
            setattr(module, name, buffer.to(device, wanted))

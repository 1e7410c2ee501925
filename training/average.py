"""The running average of trained weights, which is what a run keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of parameters, in their own dtype and on their device.

    With a decay of 0 nothing is averaged or stored: the parameters are their own average.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._parameters = list[Tensor](parameters) if decay else []
        self.values = [parameter.detach().clone() for parameter in self._parameters]

    def load(self, values: list[Tensor]) -> None:
        """Take up the values of an earlier run; none, where that run averaged nothing."""
        for own, value in zip(self.values, values or self._parameters, strict=True):
            own.copy_(value.detach())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the parameters as they are after step 0, 1, …."""
        # A young average follows closely, so that it forgets the start.
        decay = min(self.decay, (1 + step) / (10 + step))
        if self.values:
            torch._foreach_lerp_(self.values, self._parameters, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The average in the model for as long as the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, value in zip(self._parameters, self.values, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(kept)

    @torch.no_grad()
    def keep(self) -> None:
        """Make the average the parameters' value, for good."""
        for parameter, value in zip(self._parameters, self.values, strict=True):
            parameter.copy_(value)

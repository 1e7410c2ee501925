"""What both exports share: pieces that do not export exactly, and sizes that stay open."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.embeddings import Timesteps
from diffusers.models.transformers.transformer_flux import FluxPosEmbed
from torch import Tensor, nn

from a2edit.model.graphs import GraphModule


class _FrozenTimesteps(nn.Module):
    """diffusers' `Timesteps` with its frequencies as a constant.

    It computes them by exp at every call. ONNX tools fold that with another exp than torch's; one
    last bit apart, times t = 30,000 (guidance), is an angle wrong by 2e-3.
    """

    frequencies: Tensor

    def __init__(self, source: Timesteps) -> None:
        super().__init__()
        half = source.num_channels // 2
        exponent = -torch.log(torch.tensor(10000.0, dtype=torch.float64)).item()
        steps = torch.arange(half, dtype=torch.float32)
        table = torch.exp(exponent * steps / (half - source.downscale_freq_shift))
        self.register_buffer("frequencies", table, persistent=False)
        self.flip, self.scale = source.flip_sin_to_cos, source.scale

    def forward(self, timesteps: Tensor) -> Tensor:
        angles = self.scale * (timesteps[:, None].float() * self.frequencies)
        waves = (torch.cos(angles), torch.sin(angles))
        return torch.cat(waves if self.flip else waves[::-1], -1)


class _RotaryTables(nn.Module):
    """diffusers' `FluxPosEmbed` with its cosines and sines as tables that positions point into.

    It computes them in float64 at every call, which engines are slow at, and in fp32 they would be
    others.
    """

    def __init__(self, source: FluxPosEmbed, positions: int) -> None:
        super().__init__()
        rows = torch.arange(positions, dtype=torch.float32)
        cosines, sines = source(rows[:, None].expand(positions, len(source.axes_dim)))
        for kind, table in (("cos", cosines), ("sin", sines)):
            for axis, part in enumerate(table.split(source.axes_dim, -1)):
                self.register_buffer(f"{kind}{axis}", part.clone(), persistent=False)
        self._axes = len(source.axes_dim)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        places = ids.long()

        def looked_up(kind: str) -> Tensor:
            tables = [self.get_buffer(f"{kind}{axis}") for axis in range(self._axes)]
            return torch.cat([table[places[:, axis]] for axis, table in enumerate(tables)], -1)

        return looked_up("cos"), looked_up("sin")


@contextmanager
def exportable(graph: GraphModule, examples: Sequence[Tensor]) -> Iterator[None]:
    """The graph with the pieces swapped that do not export exactly; undone at the end."""
    # the examples are of the largest size: no row or column of tokens lies further out
    given = zip(graph.input_names, examples, strict=False)  # behind them, weights
    sides = [it.shape[1:3] for name, it in given if name in graph.picture_dims]
    positions = max(itertools.chain(*sides), default=0)
    swapped = [
        (parent, name, child)
        for parent in graph.modules()
        for name, child in parent.named_children()
        if isinstance(child, Timesteps | FluxPosEmbed)
    ]
    try:
        for parent, name, child in swapped:
            frozen = (
                _FrozenTimesteps(child)
                if isinstance(child, Timesteps)
                else _RotaryTables(child, positions)
            )
            setattr(parent, name, frozen)
        yield
    finally:
        for parent, name, child in swapped:
            setattr(parent, name, child)


def dynamic_shapes(dims: Sequence[Mapping[int, str]], routed: int) -> dict[str, Any] | None:
    """`dynamic_shapes` of a module that takes one tuple, `tensors`; None where none is open."""
    if not any(dims):
        return None
    opened = [dict.fromkeys(named, torch.export.Dim.DYNAMIC) for named in dims]
    return {"tensors": (*opened, *({} for _ in range(routed)))}


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter reports on its own internals, which says nothing to a user."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logger = logging.getLogger("torch.onnx")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)

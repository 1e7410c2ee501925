"""Gate tables of a calibration set, and the inputs of the denoiser that made them.

The set is drawn by the training scenes, with every kind of mask, from indices that training does
not reach. A folder of UniEdit samples can stand in its place once there is one: everything below
takes `EncodedSample`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import GraphModule

# Far above any index that a training run of days would draw.
_FIRST_INDEX = 1 << 36


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """One request as the denoiser sees it, batch 1.

    Attributes:
        category: of the scene.
        feeds: conditioning, text_tokens, reference_tokens, pooled; fp32.
        table: what the gate asked for, after routing: fp32 [L, N].
    """

    category: str
    feeds: Mapping[str, Tensor]
    table: NDArray[np.float32]


def drawn_requests(checkpoint: Checkpoint, count: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """`count` drawn requests, categories in turn: (category, tensors of batch 1).

    Tensors as the graphs take them: pixels, mask, reference u8; text_ids, pooled_ids i64.
    """
    # Here, because a checkpoint that brings its own samples has no need of the drawing code.
    from a2edit.training.data import PairFactory
    from a2edit.training.scenes import CATEGORIES
    from a2edit.training.stages import EVERY

    factory = PairFactory(checkpoint)
    names = {"canvas": "pixels"}
    for place in range(count):
        category = CATEGORIES[place % len(CATEGORIES)]
        arrays = factory.example(_FIRST_INDEX + place, EVERY, category=category).arrays
        tensors = {
            names.get(key, key): torch.as_tensor(value)[None] for key, value in arrays.items()
        }
        yield category, tensors


@torch.no_grad()
def encode(
    graphs: Mapping[str, GraphModule], requests: Iterable[tuple[str, Mapping[str, Tensor]]]
) -> Iterator[EncodedSample]:
    """Run the encoders and the gate over requests, one at a time."""
    for category, request in requests:
        known = dict(request)
        for name in ("vae_encoder", "text_encoder", "pooled_encoder", "image_encoder", "gate"):
            graph = graphs[name]
            known[graph.output_names[0]] = graph(*(known[key] for key in graph.input_names))
        keys = ("conditioning", "text_tokens", "reference_tokens", "pooled")
        table = known["gate_weights"][0].float().numpy()
        yield EncodedSample(category, {key: known[key] for key in keys}, table)

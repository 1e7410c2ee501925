"""The calibration set: requests from drawn scenes or from a UniEdit data set, and their encodings.

Drawn scenes take every kind of mask, from indices that training does not reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import GraphModule
from a2edit.runtime.sampler import ENCODED, noise, sigmas

if TYPE_CHECKING:
    from a2edit.training.scenes import Split

# Far above any index that a training run of days would draw.
_FIRST_INDEX = 1 << 36
# Places of a calibration set that no build reaches: requests to judge it on.
HELD_OUT = 1 << 24
# In the order in which each finds its inputs among a request's and the outputs of those before.
ENCODERS_AND_GATE = ("vae_encoder", "text_encoder", "pooled_encoder", "image_encoder", "gate")


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

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of its image tokens."""
        rows, columns = self.feeds["conditioning"].shape[1:3]
        return rows, columns

    def levels(self, steps: int) -> NDArray[np.float32]:
        """Noise levels fp32 [steps + 1] for a picture of its size."""
        rows, columns = self.grid
        return sigmas(steps, rows * columns)

    def noise(self, seed: int, channels: int) -> Tensor:
        """Where its loop begins: fp32 [1, h, w, channels]."""
        return torch.from_numpy(noise(seed, (1, *self.grid, channels)))


def calibration_requests(
    checkpoint: Checkpoint, data: Path | None, first: int, count: int
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Requests `first` to `first + count` of a calibration set, the categories in turn.

    Args:
        checkpoint: whose layout and tokenizers the requests are for.
        data: a UniEdit folder or shards; the drawn scenes when None.
        first: place of the first request; the same place gives the same request.
        count: how many.

    Yields:
        (category, tensors of batch 1 as the graphs take them: pixels, mask, reference u8;
        text_ids, pooled_ids i64).

    Raises:
        DataError: the data set is missing or broken.
    """
    # Here, because a checkpoint that brings its own samples has no need of the drawing code.
    from a2edit.training.data import PairFactory
    from a2edit.training.datasets.unieditsource import UniEditSource
    from a2edit.training.stages import EVERY

    source = UniEditSource(data) if data else None
    split: Split = "train" if source is None or source.count("train") else "held_out"
    factory = PairFactory(checkpoint, source)
    categories = factory.source.categories
    if source is not None:
        categories = tuple(name for name in categories if source.count(split, name))
    names = {"canvas": "pixels"}
    for place in range(first, first + count):
        turn, kind = divmod(place, len(categories))
        # Drawn scenes differ by index alone; a data set's categories count their own samples.
        index = _FIRST_INDEX + place if source is None else turn
        arrays = factory.example(index, EVERY, split, category=categories[kind]).arrays
        tensors = {
            names.get(key, key): torch.as_tensor(value)[None] for key, value in arrays.items()
        }
        yield categories[kind], tensors


@torch.no_grad()
def encode(
    graphs: Mapping[str, GraphModule], requests: Iterable[tuple[str, Mapping[str, Tensor]]]
) -> Iterator[EncodedSample]:
    """Run the encoders and the gate over requests, one at a time."""
    for category, request in requests:
        known = dict(request)
        for name in ENCODERS_AND_GATE:
            graph = graphs[name]
            known[graph.output_names[0]] = graph(*(known[key] for key in graph.input_names))
        table = known["gate_weights"][0].float().numpy()
        yield EncodedSample(category, {key: known[key] for key in ENCODED}, table)

"""Pairs as training batches: canvas, mask, reference, prompt ids, and a window of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.config import MoTConfig
from a2edit.runtime.layout import diptych, reference_panel, reference_square, tight_box
from a2edit.runtime.masks import fill_outline
from a2edit.training.datasets.source import HELD_OUT_SEEDS, DrawnScenes, SampleSource
from a2edit.training.masks import MaskMix, draw_mask
from a2edit.training.scenes import Sample, Split

_PROMPT_DROPOUT = 0.1


@dataclass(frozen=True, slots=True)
class Window:
    """A square of side × side tokens of the target panel (and the same of a reference panel).

    RoPE sees differences of positions only, so a model may learn on the tokens in and around the
    mask and run on all of them; half the side costs a quarter of the time.
    """

    row: int
    column: int
    side: int

    def indices(self, config: MoTConfig) -> Tensor:
        """Places of its tokens in the canvas sequence, i64 [panels·side²], left panel first."""
        rows, columns = (pixels // 16 for pixels in config.canvas)
        place = torch.arange(rows * columns).reshape(rows, columns)
        panel = config.size // 16
        starts = range(0, columns, panel)
        return torch.cat(
            [
                place[
                    self.row : self.row + self.side,
                    start + self.column : start + self.column + self.side,
                ].reshape(-1)
                for start in starts
            ]
        )


def window_around(mask: NDArray[np.uint8], tokens: int, sides: tuple[int, ...]) -> Window:
    """The smallest allowed window that holds the mask's tokens and one around them."""
    box = tight_box(mask)
    top, left = max(0, box.y0 // 16 - 1), max(0, box.x0 // 16 - 1)
    bottom, right = min(tokens, -(-box.y1 // 16) + 1), min(tokens, -(-box.x1 // 16) + 1)
    need = max(bottom - top, right - left)
    side = next((side for side in sides if side >= need), tokens)
    return Window(min(top, tokens - side), min(left, tokens - side), side)


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one window side.

    Attributes:
        canvas u8 [B, S, Wc, 3], mask u8 [B, S, Wc], reference u8 [B, R, R, 3].
        text_ids i64 [B, Lt], pooled_ids i64 [B, Lp], category i64 [B].
        tokens: i64 [B, T], the tokens that are learnt on; T is the whole canvas without windows.
    """

    canvas: Tensor
    mask: Tensor
    reference: Tensor
    text_ids: Tensor
    pooled_ids: Tensor
    category: Tensor
    tokens: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, name).to(device) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Example:
    """One laid-out sample, with the sample that it was made of."""

    sample: Sample
    arrays: dict[str, Any]
    window: Window


class PairFactory:
    """Lays a source's samples out for a checkpoint; the same index gives the same example."""

    def __init__(self, checkpoint: Checkpoint, source: SampleSource | None = None) -> None:
        self.config, self.reference_size = checkpoint.config, checkpoint.reference_size
        self.source = source or DrawnScenes()
        self._tokenizers = checkpoint.prompt_tokenizers()

    def example(
        self,
        index: int,
        mix: MaskMix,
        split: Split = "train",
        sides: tuple[int, ...] = (),
        category: str | None = None,
    ) -> Example:
        config = self.config
        rng = np.random.default_rng([index + (HELD_OUT_SEEDS if split == "held_out" else 0), 1])
        sample = self.source.sample(index, config.size, split, category)
        # Holes mean their inside, as they do to the runtime.
        mask = fill_outline(draw_mask(sample.scene_mask, rng, mix))
        canvas, canvas_mask = sample.scene, mask
        if config.layout == "diptych":
            panel = reference_panel(
                sample.reference,
                sample.reference_mask,
                tight_box(mask),
                config.size,
                config.reference_placement,
            )
            canvas, canvas_mask = diptych(panel, sample.scene, mask)
        prompt = "" if rng.random() < _PROMPT_DROPOUT else sample.caption
        arrays = {
            "canvas": canvas,
            "mask": canvas_mask,
            "reference": reference_square(
                sample.reference, sample.reference_mask, self.reference_size
            ),
            "text_ids": self._tokenizers["text"].encode(prompt)[0][0],
            "pooled_ids": self._tokenizers["pooled"].encode(prompt)[0][0],
            "category": np.array(self.source.categories.index(sample.category)),
        }
        return Example(sample, arrays, window_around(mask, config.size // 16, sides))

    def batch(self, examples: list[Example]) -> Batch:
        """Stack examples; they share the largest of their window sides."""
        tokens = self.config.size // 16
        side = max(example.window.side for example in examples)
        windows = [
            Window(min(e.window.row, tokens - side), min(e.window.column, tokens - side), side)
            for e in examples
        ]
        stacked = {
            key: torch.from_numpy(np.stack([example.arrays[key] for example in examples]))
            for key in examples[0].arrays
        }
        return Batch(**stacked, tokens=torch.stack([w.indices(self.config) for w in windows]))

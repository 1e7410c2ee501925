"""Pairs as training batches: canvas, mask, reference, prompt ids, and a window of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.config import MoTConfig
from a2edit.runtime.errors import RequestError
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


@dataclass(frozen=True, slots=True)
class CategoryChoice:
    """Which categories a leg of training sees.

    Attributes:
        without: categories that are held out.
        by_batch: every batch is of one category, instead of a mixture.
    """

    without: tuple[str, ...] = ()
    by_batch: bool = False

    def draw(self, unit: int, categories: tuple[str, ...]) -> str | None:
        """The category of a sample (or of a batch); None leaves it to the source."""
        if unknown := sorted(set(self.without) - set(categories)):
            raise RequestError(
                f"categories to leave out: {', '.join(unknown)} not among those of the data, "
                f"which are {', '.join(categories)}"
            )
        if not self.without and not self.by_batch:
            return None
        kept = [category for category in categories if category not in self.without]
        if not kept:
            raise RequestError(f"all {len(categories)} categories are left out: keep at least one")
        return kept[np.random.default_rng([unit, 2]).integers(len(kept))]


class _Groups(Dataset[list[Batch]]):
    """Item g is `group` batches, samples sorted by window side so that few tokens are wasted."""

    def __init__(
        self,
        factory: PairFactory,
        mix: MaskMix,
        batch: int,
        sides: tuple[int, ...],
        group: int,
        choice: CategoryChoice,
    ) -> None:
        self.factory, self.mix, self.batch, self.sides = factory, mix, batch, sides
        self.group, self.choice = group, choice

    def __getitem__(self, item: int) -> list[Batch]:
        count = self.batch * self.group
        examples = [self._example(item * count + place) for place in range(count)]
        if not self.choice.by_batch:
            examples.sort(key=lambda example: example.window.side)
        batches = [
            self.factory.batch(examples[start : start + self.batch])
            for start in range(0, count, self.batch)
        ]
        # Small windows first would make the loss oscillate with the group's period.
        order = np.random.default_rng(item).permutation(self.group)
        return [batches[place] for place in order]

    def _example(self, index: int) -> Example:
        unit = index // self.batch if self.choice.by_batch else index
        category = self.choice.draw(unit, self.factory.source.categories)
        return self.factory.example(index, self.mix, sides=self.sides, category=category)


class _From(Sampler[int]):
    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        place = self.first
        while True:
            yield place
            place += 1


def batches(
    factory: PairFactory,
    mix: MaskMix,
    batch: int,
    *,
    first: int = 0,
    sides: tuple[int, ...] = (),
    workers: int = 1,
    group: int = 4,
    choice: CategoryChoice = CategoryChoice(),
) -> Iterator[Batch]:
    """Endless batches, the same from any `first` batch on whatever ran before."""
    choice.draw(0, factory.source.categories)  # a wrong name is refused here, not in a worker
    loader = DataLoader(
        _Groups(factory, mix, batch, sides, group, choice),
        batch_size=None,
        sampler=_From(first // group),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
    )
    skip = first % group
    for items in loader:
        yield from items[skip:]
        skip = 0

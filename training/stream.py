"""The endless stream of batches: by index, in groups of like windows, cut to a process's share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from a2edit.runtime.errors import RequestError
from a2edit.training.data import Batch, Example, PairFactory
from a2edit.training.masks import MaskMix
from a2edit.training.stages import Stage
from a2edit.training.stop import leave_signals_to_the_parent


@dataclass(frozen=True, slots=True)
class Share:
    """One process of several: it gets the rows [rank·B/count, (rank + 1)·B/count) of a batch."""

    rank: int = 0
    count: int = 1

    def rows(self, batch: int) -> slice:
        assert batch % self.count == 0, f"{batch} samples cannot be shared by {self.count}"
        size = batch // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def of(self, batch: Batch) -> Batch:
        """The process's rows of a batch."""
        return rows_of(batch, self.rows(len(batch.tokens)))


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some samples of a batch, as a batch."""
    return Batch(*(getattr(batch, name)[rows] for name in Batch.__slots__))


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


@dataclass(frozen=True, slots=True)
class Choice:
    """Which samples a stream draws, and how they are put together.

    Attributes:
        masks, sides: as `Stage` has them.
        batch: samples a batch, over all processes.
        categories: that come, and whether they come apart.
    """

    masks: MaskMix
    batch: int
    sides: tuple[int, ...] = ()
    categories: CategoryChoice = CategoryChoice()

    @classmethod
    def of(cls, stage: Stage) -> Self:
        """What a stage learns from."""
        categories = CategoryChoice(stage.without, stage.per_category_batches)
        return cls(stage.masks, stage.batch, stage.sides, categories)


class _Groups(Dataset[list[Batch]]):
    """Item g is `group` batches, samples sorted by window side so that few tokens are wasted."""

    def __init__(self, factory: PairFactory, choice: Choice, share: Share, group: int) -> None:
        self.factory, self.choice, self.share, self.group = factory, choice, share, group

    def _example(self, index: int) -> Example:
        choice = self.choice
        unit = index // choice.batch if choice.categories.by_batch else index
        category = choice.categories.draw(unit, self.factory.source.categories)
        return self.factory.example(index, choice.masks, sides=choice.sides, category=category)

    def __getitem__(self, item: int) -> list[Batch]:
        size, first = self.choice.batch, item * self.choice.batch * self.group
        starts = range(first, first + size * self.group, size)
        if not self.choice.sides:
            # All windows are alike: a process can leave the others' samples undrawn.
            rows = range(size)[self.share.rows(size)]
            batches = [self._batch([start + row for row in rows]) for start in starts]
        elif self.choice.categories.by_batch:
            batches = [self.share.of(self._batch(list(range(s, s + size)))) for s in starts]
        else:
            examples = [self._example(first + place) for place in range(size * self.group)]
            examples.sort(key=lambda example: example.window.side)
            batches = [
                self.share.of(self.factory.batch(examples[start : start + size]))
                for start in range(0, len(examples), size)
            ]
        # Small windows first would make the loss oscillate with the group's period.
        order = np.random.default_rng(item).permutation(self.group)
        return [batches[place] for place in order]

    def _batch(self, indices: list[int]) -> Batch:
        return self.factory.batch([self._example(index) for index in indices])


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
    choice: Choice,
    *,
    first: int = 0,
    workers: int = 1,
    share: Share | None = None,
    group: int = 4,
) -> Generator[Batch]:
    """Endless batches, the same from any `first` batch on whatever ran before.

    The batches of all shares together are the batches of one process, row by row.
    """
    # A wrong name is refused here, not in a worker.
    choice.categories.draw(0, factory.source.categories)
    loader = DataLoader(
        _Groups(factory, choice, share or Share(), group),
        batch_size=None,
        sampler=_From(first // group),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        worker_init_fn=leave_signals_to_the_parent,
    )
    before = set(multiprocessing.active_children())
    rounds = iter(loader)
    helpers = set(multiprocessing.active_children()) - before
    skip = first % group
    try:
        for items in rounds:
            yield from items[skip:]
            skip = 0
    finally:
        del rounds  # torch asks its workers to end, and waits for a few seconds
        for helper in helpers:
            # One that was drawing all that time is past asking: it leaves SIGTERM to its parent,
            # and the interpreter would wait for it for ever.
            helper.kill()

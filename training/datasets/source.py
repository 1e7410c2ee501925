"""Where training's samples come from: the interface, and the drawn scenes behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from a2edit.training.photos import Photos
from a2edit.training.scenes import CATEGORIES, Sample, Split, draw_sample

# A held-out sample's seed never meets a training sample's.
HELD_OUT_SEEDS = 1 << 40


class SampleSource(Protocol):
    """Indexable without end: the same (index, split, category) gives the same sample.

    Sources hold no open files that could not be pickled: a loader's workers get copies.
    """

    @property
    def categories(self) -> tuple[str, ...]:
        """What `category` may be, and what `Sample.category` is one of."""

    def sample(
        self, index: int, size: int, split: Split = "train", category: str | None = None
    ) -> Sample:
        """Sample `index` (from 0) of a split, of one category or of all; pictures [size, size].

        Raises RequestError for a category or a split of which there is nothing.
        """


@dataclass(frozen=True, slots=True)
class DrawnScenes:
    """The procedurally drawn pairs; the index is the seed.

    Attributes:
        photos: a folder of a user's pictures, which become places, textures and objects; it is
            listed once, here. Raises DataError where it holds none.
    """

    photos: Path | None = None
    _pictures: Photos | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.photos is not None:
            object.__setattr__(self, "_pictures", Photos.open(self.photos))

    def __reduce__(self) -> tuple[type[DrawnScenes], tuple[Path | None]]:
        return DrawnScenes, (self.photos,)  # workers decode for themselves

    @property
    def categories(self) -> tuple[str, ...]:
        return CATEGORIES

    def sample(
        self, index: int, size: int, split: Split = "train", category: str | None = None
    ) -> Sample:
        seed = index + (HELD_OUT_SEEDS if split == "held_out" else 0)
        return draw_sample(seed, size, split, category, self._pictures)

"""A UniEdit data set as a source of training samples."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.boxes import Box, tight_box
from a2edit.runtime.errors import DataError, RequestError
from a2edit.runtime.images import Pixels
from a2edit.runtime.layout import contain
from a2edit.runtime.masks import FEATHER, resize_mask
from a2edit.runtime.prepare import context_window, crop_window
from a2edit.training.datasets.index import Progress, open_index
from a2edit.training.datasets.record import Name
from a2edit.training.datasets.uniedit import UniEditSample
from a2edit.training.scenes import CATEGORIES, Sample, Split

_SPLIT: Final[dict[Split, str]] = {"train": "train", "held_out": "test"}
# Free on each side of the reference, as a share of it; drawn references have as much.
_MARGIN = 0.05


class UniEditSource:
    """Samples of a folder or of shards, cut to squares as an edit's window is (SPEC §7).

    A pass over a split shows each sample once; in training, passes differ in order and in where
    the object lies in its window. Categories come as often as the data set has them: to have them
    equally often, ask for each in turn. Instances can be copied to workers of any kind.

    Args:
        path: what `find_units` takes.
        shift: how far training's windows move from the object's middle, as a share of their side.
        seed: of the order and of the shifts.
        progress: called with the number of samples indexed so far, when there is no index yet.

    Raises:
        DataError: there is no data set, or it cannot be indexed.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        shift: float = 0.1,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.path, self.shift, self.seed = path, shift, seed
        self.index = open_index(path, progress)

    @property
    def categories(self) -> tuple[str, ...]:
        """Those of the data set: UniEdit's in their usual order, then others by name."""
        names = {category for _, category in self.index.counts}
        known = tuple(name for name in CATEGORIES if name in names)
        return known + tuple(sorted(names.difference(known)))

    def count(self, split: Split = "train", category: str | None = None) -> int:
        """Samples in a pass."""
        return self.index.count(_SPLIT[split], category)

    def sample(
        self, index: int, size: int, split: Split = "train", category: str | None = None
    ) -> Sample:
        """Raises RequestError for a category without samples, DataError for a broken sample."""
        raw = self.raw(index, split, category)
        rng = np.random.default_rng([self.seed, index]) if split == "train" else None
        scene, scene_mask = _scene(raw, size, self.shift, rng)
        reference, reference_mask = _reference(raw, size)
        return Sample(
            scene=scene,
            scene_mask=scene_mask,
            reference=reference,
            reference_mask=reference_mask,
            caption=raw.record.prompt,
            category=raw.record.category,
            kind=raw.record.subcategory or raw.record.category,
            seed=index,
        )

    def raw(self, index: int, split: Split = "train", category: str | None = None) -> UniEditSample:
        """The sample behind `sample`, as it is stored."""
        count = self.count(split, category)
        if not count:
            have = {name: self.count(split, name) for name in self.categories}
            raise RequestError(
                f"{str(self.path)!r} has no samples in split {split!r}, category {category!r}: "
                f"it has {', '.join(f'{many} {name}' for name, many in have.items())}"
            )
        turn, place = divmod(index, count)
        if split == "train":
            place = int(_order(self.seed, turn, count)[place])
        entry = self.index.entry(_SPLIT[split], place, category)
        raw = entry.sample()
        if raw.record.split != _SPLIT[split] or category not in (None, raw.record.category):
            raise DataError(
                f"{entry.where('json')} says {raw.record.split}, {raw.record.category}, which is "
                f"not what the index has: delete {str(self.index.path)!r}, it is built again"
            )
        return raw


@lru_cache(maxsize=32)
def _order(seed: int, turn: int, count: int) -> NDArray[np.int32]:
    order: NDArray[np.int64] = np.random.default_rng([seed, turn, count]).permutation(count)
    return order.astype(np.int32)


def _check(raw: UniEditSample, name: Name, picture: Pixels, mask: Pixels) -> None:
    where = f"sample {raw.record.id!r}: {name}"
    if picture.shape[:2] != mask.shape:
        raise DataError(
            f"{where} is {picture.shape[1]}x{picture.shape[0]}, its mask "
            f"{mask.shape[1]}x{mask.shape[0]}: both must have one size"
        )
    if not mask.any():
        raise DataError(f"{where}_mask is empty: leave the sample out")


def _reference(raw: UniEditSample, size: int) -> tuple[Pixels, Pixels]:
    """The object on white, in the middle of a square: u8 [S,S,3], and its mask u8 [S,S]."""
    picture, mask = raw.picture("ref"), raw.mask("ref")
    _check(raw, "ref", picture, mask)
    cut = tight_box(mask).slices
    shown = np.where(mask[cut][..., None] > 0, picture[cut], np.uint8(255))
    inner = size - 2 * round(size * _MARGIN)
    fitted = contain(shown, inner, inner)
    height, width = fitted.shape[:2]
    rows, columns = ((size - length) // 2 for length in (height, width))
    place = slice(rows, rows + height), slice(columns, columns + width)
    square, square_mask = np.full((size, size, 3), 255, np.uint8), np.zeros((size, size), np.uint8)
    square[place], square_mask[place] = fitted, resize_mask(mask[cut], width, height)
    return square, square_mask


def _scene(
    raw: UniEditSample, size: int, shift: float, rng: np.random.Generator | None
) -> tuple[Pixels, Pixels]:
    picture, mask = raw.picture("src"), raw.mask("src")
    _check(raw, "src", picture, mask)
    height, width = mask.shape
    box = tight_box(mask)
    window = context_window(box, width, height, size)
    if rng is not None:
        right, down = rng.uniform(-shift, shift, 2) * window.width
        x0 = _moved(window.x0, right, window.width, (box.x0, box.x1), width)
        y0 = _moved(window.y0, down, window.height, (box.y0, box.y1), height)
        window = Box(x0, y0, x0 + window.width, y0 + window.height)
    return crop_window(picture, mask, window, size)


def _moved(start: int, by: float, side: int, held: tuple[int, int], length: int) -> int:
    """A window's start, moved as far as it still holds `held` and stays in the picture."""
    if side > length:
        return start
    room = FEATHER + 2
    low, high = max(0, held[1] + room - side), min(length - side, held[0] - room)
    return round(min(max(start + by, low), high)) if low <= high else start

"""Drawn scenes as a UniEdit data set, to look at or to train from files."""

from __future__ import annotations

from collections.abc import Iterator

from a2edit.training.datasets.source import SampleSource
from a2edit.training.datasets.uniedit import UniEditSample
from a2edit.training.datasets.write import make_sample
from a2edit.training.scenes import Split

LICENCE = "Apache-2.0"  # ours, as the code that draws


def export_source(
    source: SampleSource,
    count: int,
    size: int,
    split: Split,
    *,
    first: int = 0,
    licence: str = LICENCE,
) -> Iterator[UniEditSample]:
    """`count` samples of a source from index `first` on, categories in turn."""
    categories = source.categories
    for index in range(first, first + count):
        sample = source.sample(index, size, split, categories[index % len(categories)])
        yield make_sample(
            id=f"{split}-{index:07d}",
            split="train" if split == "train" else "test",
            category=sample.category,
            subcategory=sample.kind,
            prompt=sample.caption,
            licence=licence,
            pictures={
                "ref": sample.reference,
                "ref_mask": sample.reference_mask,
                "src": sample.scene,
                "src_mask": sample.scene_mask,
            },
        )

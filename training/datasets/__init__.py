"""Training data: drawn scenes, UniEdit folders and shards, and what checks and converts them."""

from a2edit.training.datasets.record import UniEditRecord
from a2edit.training.datasets.source import DrawnScenes, SampleSource
from a2edit.training.datasets.uniedit import UniEditSample
from a2edit.training.datasets.unieditsource import UniEditSource
from a2edit.training.datasets.write import make_sample, write_samples

__all__ = [
    "DrawnScenes",
    "SampleSource",
    "UniEditRecord",
    "UniEditSample",
    "UniEditSource",
    "make_sample",
    "write_samples",
]

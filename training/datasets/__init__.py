"""Training data: drawn scenes, UniEdit folders and shards, and what checks and converts them."""

from a2edit.training.datasets.source import DrawnScenes, SampleSource

__all__ = ["DrawnScenes", "SampleSource"]

"""The checkpoint that a build is made from, read when a step needs it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from a2edit.model.checkpoint import Checkpoint
    from a2edit.model.graphs import DitGraph, GraphModule
    from a2edit.runtime.metric import RouteMetric

DIT = "dit"
GRAPH_NAMES = (
    "vae_encoder",
    "text_encoder",
    "pooled_encoder",
    "image_encoder",
    "gate",
    DIT,
    "vae_decoder",
)


class Source:
    """A checkpoint by its folder and hash; a build whose steps are done never loads it.

    Raises:
        CheckpointError: the folder is missing a piece, or is broken.
    """

    def __init__(self, folder: Path) -> None:
        from a2edit.model.checkpoint import folder_hash

        self.folder = folder
        self.hash = folder_hash(folder)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        from a2edit.model.checkpoint import Checkpoint

        return Checkpoint.load(self.folder)

    @cached_property
    def graphs(self) -> dict[str, GraphModule]:
        from a2edit.model.graphs import make_graphs

        return make_graphs(self.checkpoint)

    @property
    def dit(self) -> DitGraph:
        from a2edit.model.graphs import DitGraph

        graph = self.graphs[DIT]
        assert isinstance(graph, DitGraph)
        return graph

    @cached_property
    def metric(self) -> RouteMetric:
        from a2edit.calibration.gram import checkpoint_metric

        return checkpoint_metric(self.checkpoint)

"""What a build is made from: the checkpoint, read when a step needs it, and calibration data."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from a2edit.runtime.manifest import CACHE_GRAPHS

if TYPE_CHECKING:
    import onnx_ir as ir

    from a2edit.export.openings import Openings
    from a2edit.model.checkpoint import Checkpoint
    from a2edit.model.config import MoTConfig
    from a2edit.model.graphs import DitGraph, GraphModule

DIT, MODULATION = "dit", "modulation"
GRAPH_NAMES = (
    "vae_encoder",
    "text_encoder",
    "pooled_encoder",
    "image_encoder",
    "gate",
    MODULATION,
    DIT,
    "vae_decoder",
)


# The denoiser in two, of a build with a step cache.
HEAD, TAIL = CACHE_GRAPHS


def graph_names(*, split: bool) -> tuple[str, ...]:
    """What a build makes; with head and tail of the denoiser if it is `split`."""
    return (*GRAPH_NAMES, HEAD, TAIL) if split else GRAPH_NAMES


class Source:
    """A checkpoint by its folder and hash; a build whose steps are done never loads it.

    Raises:
        CheckpointError: the folder is missing a piece, or is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def hash(self) -> str:
        """sha256 of all its files."""
        from a2edit.model.checkpoint import folder_hash

        return folder_hash(self.folder)

    @cached_property
    def config(self) -> MoTConfig:
        from a2edit.model.config import MoTConfig

        return MoTConfig.load(self.folder)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """To run in fp32; its weights stay in their files, in the types that those store."""
        from a2edit.model.mapped import map_checkpoint

        return map_checkpoint(self.folder)

    @cached_property
    def graphs(self) -> dict[str, GraphModule]:
        from a2edit.model.graphs import make_graphs

        return make_graphs(self.checkpoint)

    @cached_property
    def outline(self) -> Checkpoint:
        """The checkpoint without its weights, from its config files: for exporting.

        The heads of all weight files are read once before, so that a broken one is refused now and
        not after the first hour.
        """
        from a2edit.model.checkpoint import FOLDERS, tokenizer_folders
        from a2edit.model.part_files import PartFiles
        from a2edit.model.peft_files import ExpertFiles
        from a2edit.model.weightless import outline

        found = replace(outline(self.folder), tokenizers=tokenizer_folders(self.folder))
        for part, path in FOLDERS.items():
            PartFiles.of(self.folder / path, found.modules()[part]).check()
        config = found.config
        ExpertFiles.of(
            self.folder / "experts", found.linears, config.num_experts, config.rank, config.alpha
        )
        return found

    @cached_property
    def outline_graphs(self) -> dict[str, GraphModule]:
        from a2edit.model.graphs import make_graphs

        return make_graphs(self.outline)

    @cached_property
    def outline_halves(self) -> dict[str, GraphModule]:
        """Head and tail of the denoiser; raises CheckpointError where there is nothing to split."""
        from a2edit.model.step_cache import make_cache_graphs

        return make_cache_graphs(self.outline)

    def outline_graph(self, name: str) -> GraphModule:
        """One of `outline_graphs` or `outline_halves`."""
        return (self.outline_halves if name in CACHE_GRAPHS else self.outline_graphs)[name]

    def routed_linears(self, name: str) -> list[str]:
        """Those that a graph holds."""
        from a2edit.model.step_cache import in_head

        linears = [linear.name for linear in self.outline.linears]
        held = {
            DIT: linears,
            HEAD: [linear for linear in linears if in_head(linear)],
            TAIL: [linear for linear in linears if not in_head(linear)],
        }
        return held.get(name, [])

    @cache  # noqa: B019 # a source lives as long as its build
    def exported(self, name: str, openings: Openings) -> ir.Model:
        """The fp32 ONNX model of a graph, without weights; nobody may change it."""
        from a2edit.export.onnx_export import onnx_from_module
        from a2edit.export.weights import shared_parameters

        return onnx_from_module(
            self.outline_graph(name),
            shared_parameters(self.outline),
            [f"{linear}.weight" for linear in self.routed_linears(name)],
            openings,
        )

    @property
    def dit(self) -> DitGraph:
        from a2edit.model.graphs import DitGraph

        graph = self.graphs[DIT]
        assert isinstance(graph, DitGraph)
        return graph


def data_hash(data: Path) -> str:
    """sha256 over names, sizes and times of a data set's files: their bytes may be terabytes."""
    files = [data] if data.is_file() else sorted(path for path in data.rglob("*") if path.is_file())
    total = hashlib.sha256()
    for path in files:
        about = path.stat()
        name = path.relative_to(data.parent).as_posix()
        total.update(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return total.hexdigest()

"""A checkpoint that stays in its files: as large as one layer in fp32, whatever it is on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from a2edit.model.checkpoint import (
    FOLDERS,
    Checkpoint,
    check_base,
    find_checkpoint,
    load_gate,
    tokenizer_folders,
)
from a2edit.model.experts import ExpertBank, ExpertPair
from a2edit.model.part_files import PartFiles
from a2edit.model.peft_files import ExpertFiles
from a2edit.model.weightless import outline
from a2edit.model.widening import widen_while_running


class MappedExperts(ExpertBank):
    """Experts that stay in their files; a linear's are read, as fp32, when they are asked for."""

    def __init__(self, files: ExpertFiles) -> None:
        super().__init__([], len(files.files), files.rank, files.alpha)
        self.linears = files.linears
        self._files = files
        self._factors = [file.mapped() for file in files.files]

    def pair(self, name: str) -> ExpertPair:
        A, B = self._files.stacked(name, [factors.get(name) for factors in self._factors])
        pair = ExpertPair(A.float(), B.float())
        return pair.requires_grad_(False)


def map_checkpoint(name_or_folder: str | Path) -> Checkpoint:
    """A checkpoint to run in fp32, for inference, whose weights are the pages of its files.

    It gives what `Checkpoint.load` gives, bit by bit. The parameters have the types that the
    files store, so whoever reads them by name has to widen them. What has been read of the files
    stays in memory as long as nobody needs the room.

    Args:
        name_or_folder: as `find_checkpoint` takes it.

    Raises:
        CheckpointError: a part is missing, cannot be read, or contradicts mot_config.json.
    """
    folder = find_checkpoint(name_or_folder)
    found = replace(outline(folder), tokenizers=tokenizer_folders(folder))
    config = found.config
    check_base(folder, config)
    # In memory: it is small, and what is fp32 in its file lies there at any address, by which the
    # last bits of its products differ.
    gate = load_gate(folder / FOLDERS["gate"], found.blocks, config.num_experts)
    modules = found.modules()
    for part in FOLDERS.keys() - {"gate"}:
        _map_parameters(modules[part], PartFiles.of(folder / FOLDERS[part], modules[part]))
        widen_while_running(modules[part])
    files = ExpertFiles.of(
        folder / "experts", found.linears, config.num_experts, config.rank, config.alpha
    )
    return replace(
        found, gate=gate.eval().requires_grad_(False), experts=MappedExperts(files).eval()
    )


def _map_parameters(module: nn.Module, files: PartFiles) -> None:
    """Put stored parameters in the place of those without bytes; tied ones stay tied."""
    places = list(module.named_parameters(remove_duplicate=False))
    stored = {
        id(module.get_parameter(name)): nn.Parameter(tensor, requires_grad=False)
        for name, tensor in files.mapped()
    }
    for name, parameter in places:
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, stored[id(parameter)])

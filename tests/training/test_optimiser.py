"""Muon beside AdamW: who gets which parameters, and nothing is lost over a save."""

from pathlib import Path

import pytest
import torch

from a2edit.model.architectures import TINY, new_checkpoint
from a2edit.model.checkpoint import Checkpoint
from a2edit.training.optimiser import MuonAdamW, new_optimiser
from a2edit.training.stages import FINE, Stage


def _new(name: str, checkpoint: Checkpoint) -> torch.optim.Optimizer:
    stage = Stage("base", "base", 2, 1, 1e-3, 0, 0.0, FINE, optimiser=name)  # type: ignore[arg-type]
    transformer = checkpoint.transformer
    return new_optimiser(stage, list(transformer.parameters()), transformer, checkpoint.gate)


def _step(optimiser: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimiser.step()


def test_muon_gets_the_matrices_of_blocks_and_adamw_the_rest(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(TINY, tmp_path)
    transformer = checkpoint.transformer
    parameters = list(transformer.parameters())
    optimiser = _new("muon", checkpoint)
    assert isinstance(optimiser, MuonAdamW)
    names = {id(parameter): name for name, parameter in transformer.named_parameters()}
    held = [names[id(p)] for group in optimiser.muon.param_groups for p in group["params"]]
    assert "single_transformer_blocks.0.proj_mlp.weight" in held
    assert "x_embedder.weight" not in held
    assert "proj_out.weight" not in held
    everyone = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(everyone) == sorted(map(id, parameters))


def test_a_rate_set_outside_reaches_both(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(TINY, tmp_path)
    transformer = checkpoint.transformer.requires_grad_(True)
    optimiser = _new("muon", checkpoint)
    before = [parameter.detach().clone() for parameter in transformer.parameters()]
    optimiser.load_state_dict(optimiser.state_dict())
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    _step(optimiser, 0)
    for old, parameter in zip(before, transformer.parameters(), strict=True):
        assert torch.equal(old, parameter)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_state_goes_on_alike(tmp_path: Path, name: str) -> None:
    ends = []
    for cut in (False, True):
        checkpoint = new_checkpoint(TINY, tmp_path / str(cut))
        transformer = checkpoint.transformer.requires_grad_(True)
        parameters = list(transformer.parameters())
        optimiser = _new(name, checkpoint)
        _step(optimiser, 0)
        if cut:
            state = optimiser.state_dict()
            optimiser = _new(name, checkpoint)
            optimiser.load_state_dict(state)
        _step(optimiser, 1)
        ends.append([parameter.detach().clone() for parameter in parameters])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_the_gate_learns_at_its_share_of_the_rate(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(TINY, tmp_path)
    learning = [*checkpoint.experts.parameters(), *checkpoint.gate.parameters()]
    stage = Stage("fine", "experts", 2, 1, 1e-3, 0, 0.0, FINE, gate_rate=0.0)
    for parameter in learning:
        parameter.requires_grad_(True)
    optimiser = new_optimiser(stage, learning, checkpoint.transformer, checkpoint.gate)
    held = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(held) == sorted(map(id, learning))
    before = [parameter.detach().clone() for parameter in learning]
    for group in optimiser.param_groups:
        group["lr"] = stage.rate_at(0) * group.get("share", 1.0)
    _step(optimiser, 0)
    still = [torch.equal(a, b) for a, b in zip(before, learning, strict=True)]
    experts = len(list(checkpoint.experts.parameters()))
    assert not any(still[:experts])
    assert all(still[experts:])

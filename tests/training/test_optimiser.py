"""Muon beside AdamW: who gets which parameters, and nothing is lost over a save."""

from pathlib import Path

import pytest
import torch

from a2edit.model.architectures import TINY, new_checkpoint
from a2edit.training.optimiser import MuonAdamW, new_optimiser


def _step(optimiser: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimiser.step()


def test_muon_gets_the_matrices_of_blocks_and_adamw_the_rest(tmp_path: Path) -> None:
    transformer = new_checkpoint(TINY, tmp_path).transformer
    parameters = list(transformer.parameters())
    optimiser = new_optimiser("muon", parameters, 1e-3, transformer)
    assert isinstance(optimiser, MuonAdamW)
    names = {id(parameter): name for name, parameter in transformer.named_parameters()}
    held = [names[id(p)] for group in optimiser.muon.param_groups for p in group["params"]]
    assert "single_transformer_blocks.0.proj_mlp.weight" in held
    assert "x_embedder.weight" not in held
    assert "proj_out.weight" not in held
    everyone = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert sorted(everyone) == sorted(map(id, parameters))


def test_a_rate_set_outside_reaches_both(tmp_path: Path) -> None:
    transformer = new_checkpoint(TINY, tmp_path).transformer.requires_grad_(True)
    optimiser = new_optimiser("muon", list(transformer.parameters()), 1e-3, transformer)
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
        transformer = new_checkpoint(TINY, tmp_path / str(cut)).transformer.requires_grad_(True)
        parameters = list(transformer.parameters())
        optimiser = new_optimiser(name, parameters, 1e-3, transformer)
        _step(optimiser, 0)
        if cut:
            state = optimiser.state_dict()
            optimiser = new_optimiser(name, parameters, 1e-3, transformer)
            optimiser.load_state_dict(state)
        _step(optimiser, 1)
        ends.append([parameter.detach().clone() for parameter in parameters])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))

"""Modulation computed apart is the modulation computed inside."""

from pathlib import Path

import torch

from a2edit.model.architectures import TINY, new_checkpoint
from a2edit.model.graphs import DitGraph, ModulationGraph
from a2edit.model.modulation import modulation_widths
from a2edit.model.weightless import FLUX_FILL, fake_checkpoint, without_memory
from a2edit.runtime.sampler import ENCODED


@torch.no_grad()
def test_a_step_with_given_modulation_is_the_step(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(TINY, tmp_path)
    for norm in modulation_widths(checkpoint.transformer):
        linear = checkpoint.transformer.get_submodule(f"{norm}.linear")
        torch.nn.init.normal_(linear.get_parameter("weight"), std=0.1)
    dit, modulation = DitGraph(checkpoint), ModulationGraph(checkpoint)
    given = latents, *tokens, pooled = dit.shapes.random(("latents", *ENCODED), 2, None)
    sigma, guidance, one = torch.tensor([0.75, 0.25]), torch.full((2,), 30.0), torch.ones(2)
    level = {"sigma": sigma, "guidance": guidance}
    velocity = dit.velocity(*given, **level)
    apart = modulation(pooled, sigma, guidance)
    assert torch.equal(dit(latents, *tokens, apart, one), latents + velocity)
    other = modulation(pooled, sigma / 2, guidance)
    assert not torch.allclose(dit(latents, *tokens, other, one), latents + velocity, atol=1e-3)
    again = dit.velocity(*given, **level)
    assert torch.equal(again, velocity), "the transformer is whole again"


def test_it_is_27_percent_of_the_full_size() -> None:
    with without_memory():
        transformer = fake_checkpoint(FLUX_FILL, torch.bfloat16).transformer
    widths = modulation_widths(transformer)
    linears = [transformer.get_submodule(f"{norm}.linear") for norm in widths]
    assert [it.out_features for it in linears] == list(widths.values())
    held = sum(it.weight.numel() for it in linears)
    assert 0.265 < held / sum(it.numel() for it in transformer.parameters()) < 0.28
    assert sum(widths.values()) == 1_056_768

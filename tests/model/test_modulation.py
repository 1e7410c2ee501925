"""Modulation computed apart is the modulation computed inside."""

from pathlib import Path

import torch

from a2edit.model.architectures import TINY, new_checkpoint
from a2edit.model.graphs import DitGraph
from a2edit.model.modulation import Modulation, modulated, modulation_linears
from a2edit.model.weightless import FLUX_FILL, fake_checkpoint, without_memory


@torch.no_grad()
def test_a_step_with_given_modulation_is_the_step(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(TINY, tmp_path)
    for linear in modulation_linears(checkpoint.transformer).values():
        torch.nn.init.normal_(linear.weight, std=0.1)
    dit = DitGraph(checkpoint)
    inputs = dit.example_inputs(batch=2)
    latents, conditioning, text, reference, pooled, sigma, delta, guidance = inputs
    expected = dit(*inputs)
    given = Modulation(checkpoint.transformer)(sigma, guidance, pooled)
    nowhere = torch.full_like(sigma, torch.nan)
    with modulated(checkpoint.transformer):
        found = dit(latents, conditioning, text, reference, given, nowhere, delta, nowhere)
    assert torch.equal(found, expected)
    other = Modulation(checkpoint.transformer)(sigma / 2, guidance, pooled)
    assert not torch.equal(other, given)
    assert torch.equal(dit(*inputs), expected), "the transformer is whole again"


def test_it_is_27_percent_of_the_full_size() -> None:
    with without_memory():
        transformer = fake_checkpoint(FLUX_FILL, torch.bfloat16).transformer
    linears = modulation_linears(transformer).values()
    share = sum(it.weight.numel() for it in linears) / sum(
        it.numel() for it in transformer.parameters()
    )
    assert 0.265 < share < 0.28
    assert sum(linear.out_features for linear in linears) == 1_056_768

"""The denoiser in two against the denoiser in one, in torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import unmerged
from a2edit.model.graphs import DitGraph, GraphModule, ModulationGraph, TransformerGraph
from a2edit.model.step_cache import in_head, make_cache_graphs, relative_change, unread
from a2edit.runtime.errors import CheckpointError


@pytest.fixture(scope="module", params=[1, 3], ids=["one double block", "three"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    shape = replace(TINY, double_blocks=request.param)
    checkpoint = new_checkpoint(shape, tmp_path_factory.mktemp("tokenizers"))
    randomise_experts(checkpoint)
    return checkpoint


class Halves:
    """A checkpoint's denoiser in one and in two, and inputs of two requests."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.dit = DitGraph(checkpoint).eval()
        self.graphs = make_cache_graphs(checkpoint)
        examples = self.dit.example_inputs(batch=2)
        self.inputs = dict(zip(self.dit.input_names, examples, strict=True))
        self.inputs |= {"delta": torch.ones(2)}
        width = int(checkpoint.transformer.inner_dim)
        self.nothing = torch.zeros(2, *checkpoint.config.grid, width)

    def head(self, **changes: Any) -> dict[str, torch.Tensor]:
        kept = {"previous": self.nothing, "residual": self.nothing}
        return self._run(self.graphs["dit_head"], self.inputs | kept | changes)

    def tail(self, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return self._run(self.graphs["dit_tail"], self.inputs | found)

    def whole(self) -> torch.Tensor:
        step: torch.Tensor = self.dit(*self.inputs.values())
        return step

    @staticmethod
    def _run(graph: GraphModule, known: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = graph(*(known[name] for name in graph.input_names))
        return dict(zip(graph.output_names, outputs, strict=True))


@torch.no_grad()
def test_head_and_tail_are_the_whole_step(made: Checkpoint) -> None:
    halves = Halves(made)
    weights = torch.softmax(torch.randn(2, made.blocks, made.config.num_experts), -1)
    with unmerged(made.transformer, made.experts, weights):
        whole = halves.whole()
        step = halves.tail(halves.head())["next_latents"]
    assert torch.equal(step, whole)  # the same operations in the same order
    assert not torch.allclose(halves.whole(), whole, atol=1e-3)  # the experts took part


@torch.no_grad()
def test_a_head_with_its_own_tails_residual_is_the_whole_step_too(made: Checkpoint) -> None:
    halves = Halves(made)
    first = halves.head()
    again = halves.head(previous=first["first"], residual=halves.tail(first)["residual"])
    torch.testing.assert_close(again["next_latents"], halves.whole(), rtol=1e-5, atol=1e-5)
    assert torch.equal(again["change"], torch.zeros(2))


@torch.no_grad()
def test_the_change_is_each_samples_own(made: Checkpoint) -> None:
    halves = Halves(made)
    first = halves.head()["first"]
    halves.inputs["latents"] = halves.inputs["latents"].clone()
    halves.inputs["latents"][1] *= 1.5
    now = halves.head(previous=first)
    assert now["change"][0] == 0
    moved, size = (now["first"][1] - first[1]).abs().sum(), first[1].abs().sum()
    assert float(now["change"][1]) == pytest.approx(float(moved / size), rel=1e-5)
    assert float(now["change"][1]) > 0.01


def test_what_nothing_was_kept_of_has_changed_beyond_measure() -> None:
    change = relative_change(torch.ones(1, 2, 2, 4), torch.zeros(1, 2, 2, 4))
    assert torch.isfinite(change).all()
    assert float(change) > 1e6


def test_every_layer_is_in_one_half(made: Checkpoint) -> None:
    halves = make_cache_graphs(made)
    kept = {
        name: {
            own
            for own, _ in graph.named_parameters()
            if isinstance(graph, TransformerGraph)
            if own.startswith("transformer.") and not own.startswith(unread(graph))
        }
        for name, graph in halves.items()
    }
    apart = {id(it) for it in ModulationGraph(made).parameters()}
    every = {
        f"transformer.{own}"
        for own, parameter in made.transformer.named_parameters()
        if id(parameter) not in apart
    }
    assert kept["dit_head"] | kept["dit_tail"] == every
    both = {own.split(".")[1] for own in kept["dit_head"] & kept["dit_tail"]}
    assert both == {"proj_out"}
    for linear in made.linears:
        own = f"transformer.{linear.name}.weight"
        assert (own in kept["dit_head"]) == in_head(linear.name)
        assert (own in kept["dit_tail"]) != in_head(linear.name)


def test_a_denoiser_with_nothing_behind_its_head_is_refused(tmp_path: Path) -> None:
    lone = new_checkpoint(replace(TINY, single_blocks=0), tmp_path)
    with pytest.raises(CheckpointError, match="at least one behind it"):
        make_cache_graphs(lone)

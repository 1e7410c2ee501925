"""What skipping a tail costs, against the steps themselves run again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from a2edit.calibration.samples import EncodedSample, calibration_requests, encode
from a2edit.calibration.step_cache import COVERED, WINDOW, SkipCost, skip_costs, slope
from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import unmerged
from a2edit.model.graphs import ModulationGraph, make_graphs
from a2edit.model.step_cache import DitHeadGraph, DitTailGraph
from a2edit.runtime.sampler import ENCODED

STEPS = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    shape = replace(TINY, mot=replace(TINY.mot, steps=STEPS))
    checkpoint = new_checkpoint(shape, tmp_path_factory.mktemp("tokenizers"))
    randomise_experts(checkpoint)
    return checkpoint


@pytest.fixture(scope="module")
def sample(made: Checkpoint) -> EncodedSample:
    (encoded,) = encode(make_graphs(made), calibration_requests(made, None, 0, 1))
    return encoded


def test_costs_are_those_of_a_loop_that_skips(made: Checkpoint, sample: EncodedSample) -> None:
    """The last of two neighbouring steps, by hand: the head with what the first one left."""
    head, tail = DitHeadGraph(made).eval(), DitTailGraph(made).eval()
    costs = list(skip_costs(made, head, tail, sample, 5, sample.table))
    assert {(it.step, it.apart) for it in costs} == {
        (step, apart) for step in range(1, STEPS - 1) for apart in range(1, min(step, WINDOW) + 1)
    }
    levels, latents = sample.levels(STEPS), sample.noise(5, 64)
    kept = [torch.zeros(1, *sample.grid, int(made.transformer.inner_dim))] * 2
    one, guidance = torch.ones(1), torch.tensor([made.config.guidance])
    *tokens, pooled = (sample.feeds[name] for name in ENCODED)
    modulation = ModulationGraph(made)
    with (
        torch.no_grad(),
        unmerged(made.transformer, made.experts, torch.tensor(sample.table[None])),
    ):
        for step in range(4):
            given = modulation(pooled, torch.from_numpy(levels[step : step + 1]), guidance)
            hidden, text, first, change, skipped = head(latents, *tokens, given, one, *kept)
            whole, residual = tail(latents, hidden, text, given, one)
            if step:
                error = (skipped - whole).norm() / (whole - latents).norm()
                (cost,) = [it for it in costs if (it.step, it.apart) == (step, 1)]
                assert cost.change == pytest.approx(float(change), rel=1e-4)
                assert cost.error == pytest.approx(float(error), rel=1e-3)
            kept = [first, residual]
            latents = latents + float(levels[step + 1] - levels[step]) * (whole - latents)


def test_the_slope_covers_nearly_all() -> None:
    random = np.random.default_rng(0)
    ratios = random.uniform(0.2, 1.0, 400)
    costs = [SkipCost(1, 1, 0.1, 0.1 * ratio) for ratio in ratios]
    found = slope([*costs, SkipCost(2, 1, 0.0, 0.0)])  # nothing changed: says nothing
    assert np.mean(ratios <= found) == pytest.approx(COVERED, abs=0.005)

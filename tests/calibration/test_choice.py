"""Which linears stay in the wider type: the worst, as many as it takes, and no more."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from a2edit.calibration.choice import banded, choose, within
from a2edit.calibration.evidence import Evidence
from a2edit.calibration.policy import Kind
from a2edit.calibration.ranges import shared_inputs
from a2edit.calibration.routes import Route
from a2edit.calibration.samples import EncodedSample
from a2edit.model.architectures import TINY, new_checkpoint
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import RoutedLinear
from a2edit.model.graphs import DitGraph
from a2edit.runtime.sampler import ENCODED

ERRORS = st.lists(st.floats(1e-6, 1e-1), min_size=1, max_size=30)
STEPS = {0, 1}


@given(ERRORS, st.floats(0, 0.2))
def test_the_worst_are_lifted(found: list[float], bound: float) -> None:
    errors = {str(place): error for place, error in enumerate(found)}
    kept = within(bound, errors, dict.fromkeys(errors, 100))
    assert math.hypot(*(errors[name] for name in kept)) <= bound * 1.0001
    lifted = sorted(errors[name] for name in errors.keys() - set(kept))
    if kept and lifted:
        assert max(errors[name] for name in kept) <= lifted[0]
    if lifted:
        assert math.hypot(lifted[0], *(errors[name] for name in kept)) > bound * 0.9999


def test_a_small_linear_is_lifted_before_a_large_one_of_the_same_error() -> None:
    assert within(0.02, {"small": 0.015, "large": 0.015}, {"small": 10, "large": 99}) == ["large"]


def flux() -> list[RoutedLinear]:
    """FLUX's 418 linears, by name."""
    double = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj"]
    double += ["attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out", "ff.net.0.proj"]
    double += ["ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"]
    single = ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out"]
    names = [f"transformer_blocks.{place}.{leaf}" for place in range(19) for leaf in double]
    names += [f"single_transformer_blocks.{place}.{leaf}" for place in range(38) for leaf in single]
    return [RoutedLinear(name, 0, 3072, 3072) for name in names]


def test_at_full_size_neighbouring_blocks_are_measured_together() -> None:
    linears = flux()
    assert len(linears) == 418
    groups = banded(shared_inputs(linears), 6)
    assert len(groups) == 6 * (8 + 2)
    alone = banded([(linear,) for linear in linears], 6)
    assert len(alone) == 6 * (12 + 5)
    for found in (groups, alone):
        assert sorted(it.name for group in found for it in group) == sorted(
            it.name for it in linears
        )
    for group in alone:
        places = sorted(int(linear.name.split(".")[1]) for linear in group)
        assert len({linear.name.split(".", 2)[2] for linear in group}) == 1
        assert places == list(range(places[0], places[-1] + 1))
        assert len(places) in {3, 4, 6, 7}


def test_few_blocks_are_measured_one_by_one() -> None:
    linears = [it for it in flux() if int(it.name.split(".")[1]) < 5]
    assert banded([(linear,) for linear in linears], 6) == [(linear,) for linear in linears]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, DitGraph]:
    folder: Path = tmp_path_factory.mktemp("tiny")
    checkpoint = new_checkpoint(TINY, folder / "tokenizers")
    torch.manual_seed(1)
    for name in checkpoint.experts.linears:
        torch.nn.init.normal_(checkpoint.experts.pair(name).B, std=0.1)
    return checkpoint, DitGraph(checkpoint).eval()


def evidence(checkpoint: Checkpoint, dit: DitGraph, *routes: Route) -> Evidence:
    feeds = dict(zip(ENCODED, dit.shapes.random(ENCODED, 1, None), strict=True))
    table = np.full((checkpoint.blocks, checkpoint.experts.experts), 0.2, np.float32)
    samples = [EncodedSample("one", feeds, table)]
    return Evidence.gather(checkpoint, dit, samples, routes, STEPS)


def route(checkpoint: Checkpoint, name: str, weight: float) -> Route:
    shape = checkpoint.blocks, checkpoint.experts.experts
    return Route(name, np.full(shape, weight, np.float32), 1, 0.0)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_measured_on_the_model(tiny: tuple[Checkpoint, DitGraph], kind: Kind) -> None:
    checkpoint, dit = tiny
    found = evidence(checkpoint, dit)
    assert found.error({}, STEPS) < 1e-5
    before = {name: it.clone() for name, it in checkpoint.transformer.state_dict().items()}
    free = choose(checkpoint, dit, found, 1.0, kind)
    assert not free.lifted
    assert free.shared
    assert free.ranges.keys() == {linear.name for linear in checkpoint.linears}
    assert 1e-4 < free.error < 1
    # Who reads one tensor sees it rounded in one way.
    for readers in shared_inputs(checkpoint.linears):
        assert len({id(free.ranges[linear.name]) for linear in readers}) == 1
    tight = choose(checkpoint, dit, found, free.error / 2, kind)
    assert tight.error <= free.error / 2
    assert tight.lifted
    assert tight.ranges
    assert tight.ranges.keys().isdisjoint(tight.lifted)
    none = choose(checkpoint, dit, found, 0.0, kind)
    assert not none.ranges
    assert none.error < 1e-5
    after = checkpoint.transformer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_route_that_errs_more_has_linears_lifted_for_all(
    tiny: tuple[Checkpoint, DitGraph],
) -> None:
    """The route's experts are so strong that what its linears read lies beyond the ranges."""
    checkpoint, dit = tiny
    like, far = route(checkpoint, "like", 0.2), route(checkpoint, "far", 8.0)
    alike = choose(checkpoint, dit, evidence(checkpoint, dit, like), 1.0, "int8")
    assert alike.shared
    assert alike.fits["like"].error == pytest.approx(alike.error, rel=1e-4)
    free = choose(checkpoint, dit, evidence(checkpoint, dit, far), 10.0, "int8")
    assert free.shared
    assert free.fits["far"].clipped > 0.01
    assert free.fits["far"].own < 0.9 * free.fits["far"].error
    bound = (free.error + free.fits["far"].error) / 2
    assert free.error < bound
    held = choose(checkpoint, dit, evidence(checkpoint, dit, like, far), bound, "int8")
    assert not held.shared
    assert held.fits["far"].error <= bound
    assert "on a route's own table all errs by more than is allowed" in held.lifted.values()
    written = json.loads(json.dumps(held.to_dict(bound)))
    assert written["routes"]["worst"] == "far"
    assert not written["routes"]["shared"]
    assert written["lifted"].keys() == held.lifted.keys()
    assert written["quantised"].keys() == held.ranges.keys()

"""Which linears stay fp32: the worst, as many as it takes, and no more."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from a2edit.calibration.choice import choose_int8, within
from a2edit.calibration.probe import VelocityProbe
from a2edit.calibration.samples import EncodedSample
from a2edit.model.architectures import TINY, new_checkpoint
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import DitGraph

ERRORS = st.lists(st.floats(1e-6, 1e-1), min_size=1, max_size=30)


@given(ERRORS, st.floats(0, 0.2))
def test_the_worst_stay_fp32(found: list[float], bound: float) -> None:
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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, DitGraph]:
    folder: Path = tmp_path_factory.mktemp("tiny")
    checkpoint = new_checkpoint(TINY, folder / "tokenizers")
    torch.manual_seed(1)
    for name in checkpoint.experts.linears:
        torch.nn.init.normal_(checkpoint.experts.pair(name).B, std=0.1)
    return checkpoint, DitGraph(checkpoint).eval()


def test_measured_on_the_model(tiny: tuple[Checkpoint, DitGraph]) -> None:
    checkpoint, dit = tiny
    names = dit.input_names[1:5]
    feeds = dict(zip(names, dit.example_inputs()[1:5], strict=True))
    table = torch.full((checkpoint.blocks, checkpoint.experts.experts), 0.2).numpy()
    samples = [EncodedSample("one", feeds, table)]
    steps = {0, 1}
    probes = [VelocityProbe(checkpoint, dit, samples[0], 0, steps)]
    assert probes[0].error({}, steps) < 1e-5  # merged weights repeat the experts
    before = {name: it.clone() for name, it in checkpoint.transformer.state_dict().items()}
    free = choose_int8(checkpoint, dit, samples, probes, steps, 1.0)
    assert not free.lifted
    assert free.ranges.keys() == {linear.name for linear in checkpoint.linears}
    assert 1e-4 < free.error < 1
    tight = choose_int8(checkpoint, dit, samples, probes, steps, free.error / 2)
    assert tight.error <= free.error / 2
    assert tight.lifted
    assert tight.ranges
    assert tight.ranges.keys().isdisjoint(tight.lifted)
    none = choose_int8(checkpoint, dit, samples, probes, steps, 0.0)
    assert not none.ranges
    assert none.error < 1e-5
    after = checkpoint.transformer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)

"""Which base is rounded to 8 bits: as much as the velocity bears, on the real classes."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from a2edit.calibration.base import choose_base
from a2edit.calibration.evidence import Evidence
from a2edit.calibration.policy import graph_policy, merged_psnr_db, merged_tolerance
from a2edit.calibration.samples import EncodedSample
from a2edit.kernels.reference import dequantise_rows, quantise_rows
from a2edit.model.architectures import TINY, new_checkpoint
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import DitGraph
from a2edit.runtime.sampler import ENCODED
from a2edit.runtime.targets import TARGETS

STEPS = {0, 1}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    made = new_checkpoint(TINY, tmp_path / "tokenizers")
    torch.manual_seed(1)
    for name in made.experts.linears:
        torch.nn.init.normal_(made.experts.pair(name).B, std=0.1)
    return made


def evidence(checkpoint: Checkpoint) -> Evidence:
    dit = DitGraph(checkpoint).eval()
    torch.manual_seed(2)
    feeds = dict(zip(ENCODED, dit.shapes.random(ENCODED, 1, None), strict=True))
    table = np.full((checkpoint.blocks, checkpoint.experts.experts), 0.2, np.float32)
    return Evidence.gather(checkpoint, dit, [EncodedSample("one", feeds, table)], (), STEPS)


def names_of(checkpoint: Checkpoint) -> list[str]:
    return [linear.name for linear in checkpoint.linears]


def rounded_in_place(checkpoint: Checkpoint, names: Sequence[str]) -> None:
    for name in names:
        weight = checkpoint.transformer.get_parameter(f"{name}.weight")
        wide = dequantise_rows(*quantise_rows(weight.detach().numpy()))
        weight.data = torch.from_numpy(wide)


def test_an_error_is_that_of_a_model_with_such_a_base(checkpoint: Checkpoint) -> None:
    found, names = evidence(checkpoint), names_of(checkpoint)[::2]
    assert found.base_error([], STEPS) < 1e-6
    error = found.base_error(names, STEPS)
    state = checkpoint.transformer.state_dict()
    before = {name: it.clone() for name, it in state.items()}
    rounded_in_place(checkpoint, names)
    assert found.base_error([], STEPS) == pytest.approx(error, rel=1e-4)
    # levels of what is on levels are the same levels
    assert found.base_error(names, STEPS) == pytest.approx(error, rel=1e-3)
    changed = {name for name, it in checkpoint.transformer.state_dict().items()
               if not torch.equal(it, before[name])}  # fmt: skip
    assert changed == {f"{name}.weight" for name in names}


def test_as_many_as_keep_the_bound_are_rounded(checkpoint: Checkpoint) -> None:
    found = evidence(checkpoint)
    before = {name: it.clone() for name, it in checkpoint.transformer.state_dict().items()}
    free = choose_base(checkpoint, found, 1.0)
    assert free.eight == set(names_of(checkpoint))
    assert not free.lifted
    bound = free.error / 2
    tight = choose_base(checkpoint, found, bound)
    assert 0 < tight.error <= bound
    assert tight.eight
    assert tight.eight.isdisjoint(tight.lifted)
    assert tight.eight | tight.lifted.keys() == set(names_of(checkpoint))
    assert max(tight.alone, key=lambda name: tight.alone[name]) in tight.lifted
    none = choose_base(checkpoint, found, 0.0)
    assert not none.eight
    after = checkpoint.transformer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    written = json.loads(json.dumps(tight.to_dict(bound)))
    assert written["eight"].keys() == tight.eight
    assert written["lifted"].keys() == tight.lifted.keys()


def test_what_is_to_be_lifted_is(checkpoint: Checkpoint) -> None:
    first = names_of(checkpoint)[0]
    found = choose_base(checkpoint, evidence(checkpoint), 1.0, [first])
    assert found.lifted == {first: "as asked for"}
    assert first not in found.alone
    assert found.to_dict(1.0)["lifted"][first]["error_alone"] is None


def test_what_is_allowed_adds_up_in_squares() -> None:
    fp32 = graph_policy("dit", TARGETS["cpu"], "fp32", small=False)
    int8 = graph_policy("dit", TARGETS["cpu"], "int8", small=False)
    assert merged_tolerance(fp32) == 2e-2
    assert merged_tolerance(int8) == 2.8e-2
    assert merged_psnr_db(fp32) == merged_psnr_db(int8) == 30

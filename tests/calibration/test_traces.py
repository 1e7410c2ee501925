"""Traces: sums of what the model did, that add up whatever parts they were made in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from a2edit.calibration.gram import block_gains, checkpoint_metric, traced_metric
from a2edit.calibration.samples import EncodedSample, calibration_requests, encode
from a2edit.calibration.traces import Traces
from a2edit.calibration.tracing import BINS, trace
from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import unmerged
from a2edit.model.graphs import DitGraph, make_graphs
from a2edit.runtime.sampler import ENCODED, noise, sigmas

SAMPLES = 6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    found = new_checkpoint(TINY, tmp_path_factory.mktemp("tokenizers"))
    randomise_experts(found)
    torch.manual_seed(1)
    torch.nn.init.normal_(found.gate.heads.weight, std=2.0)  # a gate with opinions
    return found


@pytest.fixture(scope="module")
def dit(checkpoint: Checkpoint) -> DitGraph:
    graph = make_graphs(checkpoint)["dit"]
    assert isinstance(graph, DitGraph)
    return graph


@pytest.fixture(scope="module")
def samples(checkpoint: Checkpoint) -> list[EncodedSample]:
    requests = calibration_requests(checkpoint, None, 0, SAMPLES)
    return list(encode(make_graphs(checkpoint), requests))


@pytest.fixture(scope="module")
def whole(checkpoint: Checkpoint, dit: DitGraph, samples: list[EncodedSample]) -> Traces:
    return trace(checkpoint, dit, samples, deep=SAMPLES)


def arrays(traces: Traces) -> dict[str, np.ndarray]:
    plain = {"tables", "sigmas", "forwards", "velocity", "gaps", "changes"}
    found = {name: getattr(traces, name) for name in plain}
    found |= {f"m.{name}": array for name, array in traces.moments.items()}
    return found | {f"e.{name}": array for name, array in traces.energies.items()}


def test_moments_are_the_inputs_squares(
    checkpoint: Checkpoint, dit: DitGraph, samples: list[EncodedSample], whole: Traces
) -> None:
    """The first bin of one category, run again by hand."""
    kind, name = whole.kinds[0], checkpoint.linears[0].name
    squares, energy = np.zeros(checkpoint.linears[0].in_features), 0.0
    base = checkpoint.transformer.get_submodule(name)
    channels = int(checkpoint.transformer.config.out_channels)
    for place, sample in enumerate(samples):
        if sample.category != kind:
            continue
        seen: list[torch.Tensor] = []
        handle = base.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        levels = sigmas(BINS, checkpoint.config.image_tokens)
        latents = torch.from_numpy(noise(place, (1, *checkpoint.config.grid, channels)))
        feeds = (sample.feeds[key] for key in ENCODED)
        scalars = (torch.tensor([x]) for x in (float(levels[0]), checkpoint.config.guidance))
        table = torch.from_numpy(sample.table)[None]
        with torch.no_grad(), unmerged(checkpoint.transformer, checkpoint.experts, table):
            dit.velocity(latents, *feeds, *scalars)
        handle.remove()
        (x,) = seen
        squares += x[0].double().square().sum(0).numpy()
        energy += float(torch.nn.functional.linear(x, base.weight, base.bias).square().sum())
    np.testing.assert_allclose(whole.moments[name][0, 0], squares, rtol=1e-4)
    np.testing.assert_allclose(whole.energies[name][0, 0], energy, rtol=1e-4)


def test_parts_add_up_to_the_whole(
    checkpoint: Checkpoint, dit: DitGraph, samples: list[EncodedSample], whole: Traces
) -> None:
    """Two parts give the sums of one run, but for the swap across the parts' border."""
    parts = [
        trace(checkpoint, dit, samples[:4], deep=4),
        trace(checkpoint, dit, samples[4:], first=4, deep=2),
    ]
    joined = Traces.join(parts)
    assert joined.categories == whole.categories
    assert joined.kinds == whole.kinds
    for name, array in arrays(whole).items():
        if name in {"gaps", "changes"}:
            found = arrays(joined)[name]
            np.testing.assert_allclose(found, np.delete(array, 3, 0), rtol=1e-4, atol=1e-6)
        else:
            np.testing.assert_allclose(arrays(joined)[name], array, rtol=1e-5, err_msg=name)


def test_saved_and_loaded_it_is_the_same(whole: Traces, tmp_path: Path) -> None:
    whole.save(tmp_path)
    again = Traces.load(tmp_path)
    assert (again.categories, again.kinds) == (whole.categories, whole.kinds)
    for name, array in arrays(whole).items():
        assert arrays(again)[name].tobytes() == array.tobytes(), name


def test_samples_that_are_not_run_leave_their_tables_alone(
    checkpoint: Checkpoint, dit: DitGraph, samples: list[EncodedSample], whole: Traces
) -> None:
    shallow = trace(checkpoint, dit, samples, deep=0)
    np.testing.assert_array_equal(shallow.tables, whole.tables)
    assert shallow.forwards.sum() == 0
    joined = Traces.join([whole, shallow])
    assert len(joined.tables) == 2 * SAMPLES
    assert joined.mean_velocity == whole.mean_velocity
    # without a forward there is nothing to weigh by
    plain = checkpoint_metric(checkpoint)
    np.testing.assert_array_equal(traced_metric(checkpoint, shallow).gram, plain.gram)


def test_nothing_of_the_model_is_left_changed(
    checkpoint: Checkpoint, dit: DitGraph, samples: list[EncodedSample]
) -> None:
    before = {name: p.clone() for name, p in checkpoint.transformer.named_parameters()}
    trace(checkpoint, dit, samples[:2], deep=2)
    after = dict(checkpoint.transformer.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert checkpoint.experts.weights is None
    assert not any(module._forward_hooks for module in checkpoint.transformer.modules())


def test_the_metric_speaks_of_the_velocity(checkpoint: Checkpoint, whole: Traces) -> None:
    """Over the swaps that it was scaled by, predicted and measured change are one number."""
    metric = traced_metric(checkpoint, whole)
    predicted = np.einsum("pli,lij,plj->", whole.gaps, metric.gram, whole.gaps)
    assert predicted == pytest.approx(whole.changes[:, -1].sum(), rel=1e-5)
    assert metric.energy == pytest.approx(whole.mean_velocity)


def test_gains_find_the_block_that_the_output_hears() -> None:
    """Blocks whose errors reach the output by known factors, which then add up with a known one."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((3, 4, 4))
    gram, gaps = root @ root.transpose(0, 2, 1), rng.standard_normal((5, 3, 4))
    truth = np.array([4.0, 0.25, 1.0])
    inside = np.einsum("pli,lij,plj->pl", gaps, gram, gaps) * truth
    changes = np.concatenate([inside, 1.5 * inside.sum(1, keepdims=True)], 1)
    gains = block_gains(gram, gaps, changes)
    assert gains is not None
    np.testing.assert_allclose(gains, 1.5 * truth, rtol=1e-12)
    # a block that was never swapped takes what the others come to together
    gaps[:, 1], changes[:, 1] = 0, 0
    changes[:, -1] = changes[:, :-1].sum(1)
    gains = block_gains(gram, gaps, changes)
    assert gains is not None
    np.testing.assert_allclose(gains[[0, 2]], truth[[0, 2]], rtol=1e-12)
    assert 1 < gains[1] < 4


def test_tables_that_never_differ_have_no_gains() -> None:
    assert block_gains(np.eye(2)[None], np.zeros((3, 1, 2)), np.zeros((3, 2))) is None
    assert block_gains(np.eye(2)[None], np.zeros((0, 1, 2)), np.zeros((0, 2))) is None

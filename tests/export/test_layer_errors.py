"""Errors of linears: nothing in an fp32 graph, and the one that is spoilt in a quantised one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from a2edit.calibration.ranges import denoised, input_spreads
from a2edit.calibration.samples import EncodedSample
from a2edit.export.edge import read_graph, write_graph
from a2edit.export.held_out import HeldOut, Truth, compared_steps
from a2edit.export.layer_errors import LayerError, layer_errors
from a2edit.export.onnx_export import SHARED_FILE, onnx_from_module, save_onnx
from a2edit.export.passes import run
from a2edit.export.passes.qdq import QuantiseRoutedLinears
from a2edit.export.source import DIT, Source
from a2edit.export.weights import places, save_shared, shared_parameters
from a2edit.kernels.reference import quantise_rows
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import merged_state
from a2edit.runtime.engines.base import Array, WeightSet
from a2edit.runtime.errors import EngineError
from a2edit.runtime.sampler import ENCODED, sigmas


@pytest.fixture(scope="module")
def source(checkpoint_folder: Path) -> Source:
    return Source(checkpoint_folder)


@pytest.fixture(scope="module")
def sample(source: Source) -> EncodedSample:
    names, examples = ENCODED, source.dit.shapes.random(ENCODED, 1, None)
    experts = source.checkpoint.experts.experts
    table = np.zeros((source.checkpoint.blocks, experts), np.float32)
    table[:, 1], table[:, 2] = 0.7, 0.3
    return EncodedSample("drawn", dict(zip(names, examples, strict=True)), table)


@pytest.fixture(scope="module")
def shared(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    save_shared(source.outline, source.folder, folder / SHARED_FILE)
    return folder


def exported(source: Source) -> ir.Model:
    outline = source.outline
    routed = [f"{linear.name}.weight" for linear in outline.linears]
    return onnx_from_module(source.outline_graphs[DIT], shared_parameters(outline), routed)


def errors(
    source: Source, sample: EncodedSample, model: ir.Model, shared: Path, weights: dict[str, Array]
) -> list[LayerError]:
    write_graph(model, len(source.dit.input_names), shared)
    save_onnx(model, places(shared / SHARED_FILE), shared / "dit.onnx")
    config = source.checkpoint.config
    steps = compared_steps(config.steps)
    loop = enumerate(denoised(source.checkpoint, source.dit, sample, 0))
    points = {step: (it[0].numpy(), v.numpy()) for step, (it, v) in loop if step in steps}
    nothing = np.zeros((8, 8, 3), np.uint8)
    feeds = {key: tensor.numpy() for key, tensor in sample.feeds.items()}
    feeds["guidance"] = np.array([config.guidance], np.float32)
    found = layer_errors(
        source.checkpoint,
        source.dit,
        shared / "dit.onnx",
        read_graph(shared, "").spec(DIT),
        WeightSet("route", weights),
        HeldOut("drawn", sample.table, feeds, nothing, nothing[..., 0], nothing),
        Truth(sigmas(config.steps, config.image_tokens), points, nothing),
        sample.table,
        max(steps),
    )
    assert not list(shared.glob(".tapped*"))
    assert {error.name for error in found} == {it.name for it in source.checkpoint.linears}
    return found


def merged(source: Source, sample: EncodedSample) -> Mapping[str, Array]:
    checkpoint = Checkpoint.load(source.folder)
    table = torch.from_numpy(sample.table)
    with torch.no_grad():
        state = merged_state(checkpoint.transformer, checkpoint.experts, table)
    return {name: weight.numpy() for name, weight in state.items()}


def test_an_fp32_graph_errs_nowhere(source: Source, sample: EncodedSample, shared: Path) -> None:
    found = errors(source, sample, exported(source), shared, dict(merged(source, sample)))
    assert max(error.own for error in found) < 1e-5
    assert max(error.total for error in found) < 1e-5


@pytest.mark.parametrize(
    ("spoilt", "next_one"), [("0.attn.to_q", "0.proj_out"), ("0.proj_out", "1.attn.to_q")]
)
def test_a_spoilt_range_is_found_first(
    source: Source, sample: EncodedSample, shared: Path, spoilt: str, next_one: str
) -> None:
    """Every linear in int8, one clipped to a tenth of what it sees, all smoothed."""
    checkpoint = source.checkpoint
    name = f"single_transformer_blocks.{spoilt}"
    ranges, smooth = {}, {}
    weights: dict[str, Array] = {}
    spreads = input_spreads(checkpoint, source.dit, [sample])
    peaks = {name: spread.peaks for name, spread in spreads.items()}
    state = merged(source, sample)
    for linear in checkpoint.linears:
        factors = peaks[linear.name].clamp(min=1e-3).sqrt().numpy()
        scaled = peaks[linear.name].numpy() / factors
        spoil = 0.1 if linear.name == name else 1
        ranges[linear.name] = spoil * float(scaled.max())
        smooth[f"{linear.name}.smooth"] = factors
        levels, scales = quantise_rows(state[f"{linear.name}.weight"], factors)
        weights |= {f"{linear.name}.weight": levels, f"{linear.name}.scale": scales}
    model = run(exported(source), [QuantiseRoutedLinears(ranges, smooth)], DIT)
    found = errors(source, sample, model, shared, weights)
    assert found[0].name == name
    assert found[0].own > 0.1
    assert found[1].own < found[0].own / 3
    # What comes before a linear is not held against it.
    after = {error.name: error for error in found}[f"single_transformer_blocks.{next_one}"]
    assert after.own < after.total / 2


def test_a_graph_without_the_linears_is_refused(
    source: Source, sample: EncodedSample, shared: Path
) -> None:
    model = onnx_from_module(source.outline_graphs["gate"], shared_parameters(source.outline))
    with pytest.raises(EngineError, match=r"graph gate: .* has 0 products"):
        errors(source, sample, model, shared, {})

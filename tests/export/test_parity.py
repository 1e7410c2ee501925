"""Every exported graph against torch, in both engines; the denoiser merged against unmerged."""

from pathlib import Path

import numpy as np
import pytest
import torch

from a2edit.calibration.policy import BYTES_TOLERANCE, TOLERANCE
from a2edit.export.source import GRAPH_NAMES
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import unmerged
from a2edit.model.graphs import GraphModule, make_graphs
from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.engines import onnxruntime, openvino
from a2edit.runtime.engines.base import GraphSpec

BACKENDS = {
    "onnxruntime": lambda b, name: onnxruntime.engine_from_onnx(
        spec(b, name), b.folder / "graphs" / f"{name}.fp32.onnx", "fp32"
    ),
    "openvino": lambda b, name: openvino.engine_from_onnx(
        spec(b, name), b.folder / "graphs" / f"{name}.fp32.onnx", "fp32"
    ),
    "openvino blob": lambda b, name: openvino.engine_from_blob(
        spec(b, name), b.folder / "engines/cpu" / f"{name}.blob", "fp32"
    ),
}


def spec(bundle: Bundle, name: str) -> GraphSpec:
    return bundle.manifest.graphs[name]["fp32"].spec(name)


@pytest.fixture(scope="module")
def opened(bundle: Path) -> Bundle:
    return open_bundle(bundle)


@pytest.fixture(scope="module")
def graphs(checkpoint: Checkpoint) -> dict[str, GraphModule]:
    return make_graphs(checkpoint)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", GRAPH_NAMES)
def test_graph_repeats_torch(
    opened: Bundle,
    checkpoint: Checkpoint,
    graphs: dict[str, GraphModule],
    name: str,
    backend: str,
) -> None:
    graph = graphs[name]
    inputs = dict(zip(graph.input_names, graph.example_inputs(), strict=True))
    base: np.ndarray | float = 0.0
    with BACKENDS[backend](opened, name) as engine, torch.no_grad():
        if name == "dit":
            route, entry = next(iter(opened.manifest.routes.items()))
            engine.bind(opened.weight_set(route, "fp32"))
            inputs["delta"] = torch.ones(1)  # so that the step is x + v
            base = inputs["latents"].numpy()
            table = torch.tensor(entry.table)[None]
            with unmerged(checkpoint.transformer, checkpoint.experts, table):
                truth = graph(*inputs.values()).numpy()
        else:
            truth = graph(*inputs.values()).numpy()
        feeds = {key: value.numpy().copy() for key, value in inputs.items()}
        found = engine.run(feeds)[graph.output_names[0]]
    assert (found.dtype, found.shape) == (truth.dtype, truth.shape)
    gap, wanted = found.astype(np.float64) - truth, truth.astype(np.float64) - base
    error = np.linalg.norm(gap) / np.linalg.norm(wanted)
    allowed = (BYTES_TOLERANCE if truth.dtype == np.uint8 else TOLERANCE)["fp32"]
    worst = np.unravel_index(np.abs(gap).argmax(), gap.shape)
    assert error <= allowed, f"{error:.1e}; worst at {worst}: {found[worst]} for {truth[worst]}"


def test_experts_change_the_velocity_far_more_than_the_engine_errs(
    opened: Bundle, checkpoint: Checkpoint, graphs: dict[str, GraphModule]
) -> None:
    """Otherwise the test above would pass with the experts left out."""
    inputs = graphs["dit"].example_inputs()
    with torch.no_grad():
        plain = graphs["dit"](*inputs)
        table = torch.tensor(next(iter(opened.manifest.routes.values())).table)[None]
        with unmerged(checkpoint.transformer, checkpoint.experts, table):
            mixed = graphs["dit"](*inputs)
    assert float((mixed - plain).norm() / (plain - inputs[0]).norm()) > 100 * TOLERANCE["fp32"]


def test_guidance_and_timestep_angles_are_torchs_own(
    opened: Bundle, graphs: dict[str, GraphModule]
) -> None:
    """t = 1000 and guidance 30,000 multiply any difference in the embedding's frequencies."""
    graph = graphs["modulation"]
    inputs = dict(zip(graph.input_names, graph.example_inputs(), strict=True))
    inputs |= {"sigma": torch.ones(1), "guidance": torch.tensor([77.7])}
    with BACKENDS["onnxruntime"](opened, "modulation") as engine, torch.no_grad():
        truth = graph(*inputs.values())
        found = engine.run({key: value.numpy().copy() for key, value in inputs.items()})
    modulation = torch.from_numpy(found["modulation"])
    assert float((modulation - truth).norm() / truth.norm()) < 2e-6

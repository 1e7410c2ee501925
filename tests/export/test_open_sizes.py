"""Graphs that leave size and batch open: exported, built for a CPU and GPUs, and edited with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.compile.openvino import processor
from a2edit.export.edge import graph_spec
from a2edit.export.held_out import BUNDLED_SAMPLES, read_held_out
from a2edit.export.onnx_export import onnx_from_module
from a2edit.export.openings import Openings
from a2edit.export.plan import plan_build
from a2edit.export.settings import BuildSettings
from a2edit.export.weights import shared_parameters
from a2edit.model.graphs import make_graphs
from a2edit.model.weightless import fake_checkpoint, shapes_of, without_weights
from a2edit.runtime.batch import edits_by_route
from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.editor import Conditioned, Editor, Progress
from a2edit.runtime.engines.base import Array, Engine
from a2edit.runtime.errors import RequestError
from a2edit.runtime.request import EditRequest, EditResult
from a2edit.runtime.routing import RoutePlan
from a2edit.runtime.sampler import CONTEXT, denoise, modulations
from tests.export.test_gpu_targets import tiny_is_large

OWN, OTHERS = 32, (48, 80)
FP8 = "float8_e4m3fn"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def opened_settings(
    tiny_settings: Callable[..., BuildSettings], tmp_path_factory: pytest.TempPathFactory
) -> BuildSettings:
    """Three sizes, up to four requests a run."""
    out, chosen = tmp_path_factory.mktemp("open") / "tiny", {"sizes": OTHERS, "batch": 4}
    return tiny_settings(out, target="cpu,sm80,sm89", precision="auto", routes=2, **chosen)


@pytest.fixture(scope="module")
def opened(opened_settings: BuildSettings) -> Bundle:
    with tiny_is_large(), pytest.MonkeyPatch.context() as patched:
        # onnxruntime is to run the processor's engines, too
        name, capabilities = processor()
        fp32 = name, tuple(it for it in capabilities if it != "BF16")
        patched.setattr("a2edit.export.targets.openvino.processor", lambda: fp32)
        build(opened_settings, Silent())
    return open_bundle(opened_settings.out)


def test_the_edge_says_what_is_open(opened: Bundle) -> None:
    model = opened.manifest.model
    assert (model.size, model.sizes, model.batch) == (OWN, (OWN, *OTHERS), 4)
    for variants in opened.manifest.graphs.values():
        for entry in variants.values():
            assert all(part.shape[0] == -1 for part in (*entry.inputs, *entry.outputs))
    (dit,) = {entry.inputs[:2] for entry in opened.manifest.graphs["dit"].values()}
    assert [part.shape for part in dit] == [(-1, -1, -1, 64), (-1, -1, -1, 320)]


def test_its_size_was_foretold(opened_settings: BuildSettings, opened: Bundle) -> None:
    files = {name: entry.bytes for name, entry in opened.manifest.files.items()}
    plan = plan_build(opened_settings)
    for prefix, kind in (("verification/", "file"), ("engines/", "engine")):
        made = sum(size for name, size in files.items() if name.startswith(prefix))
        named = [it for it in plan.items if it.kind == kind]
        foretold = sum(it.total for it in named if kind == "engine" or it.name == prefix)
        assert foretold == pytest.approx(made, rel=0.25), prefix


def test_every_target_is_verified_at_every_size(opened: Bundle) -> None:
    samples = read_held_out(opened.path(BUNDLED_SAMPLES))
    assert [len(sample.canvas) for sample in samples] == [OWN, OWN, *OTHERS]
    for target in ("cpu", "sm80", "sm89"):
        found = opened.manifest.verification[target]
        assert found["graphs"].keys() == opened.manifest.graphs.keys() - {"dit"}
        for figure in (*found["graphs"].values(), *found["routes"].values()):
            assert figure["relative_error"] <= figure["tolerance"]


@pytest.mark.parametrize(("target", "kind"), [("sm80", "int8"), ("sm89", "fp8")])
def test_plans_multiply_in_8_bits_as_those_of_one_size_do(
    opened: Bundle, target: str, kind: str
) -> None:
    counted = opened.manifest.precision
    asked = counted["routed_weights"][f"{kind}-bf16"]["int8" if kind == "int8" else FP8]
    products = counted["products"][target]["dit"]
    assert products["source"] == "plan"
    assert products["profiles"] == 3
    assert asked / 2 < products["linear"][f"{kind} x {kind}"] / 3 <= asked


def _request(size: int | None, seed: int = 0, steps: int = 2) -> EditRequest:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (90, 120, 3), np.uint8) for _ in range(2)]
    mask = np.zeros((90, 120), np.uint8)
    mask[30:60, 40:80] = 255
    return EditRequest(
        image=pictures[0], mask=mask, reference=pictures[1], seed=seed, steps=steps, size=size
    )


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_an_edit_chooses_its_size(opened: Bundle, engine: str) -> None:
    with Editor.open(opened.folder, engine=engine) as editor:
        for size in (None, *OTHERS, OWN):
            result = editor.edit(_request(size))
            assert result.prepared is not None
            assert result.prepared.canvas.shape == (size or OWN, 2 * (size or OWN), 3)
            assert result.image.size == (120, 90)
        with pytest.raises(RequestError, match=r"size 64 is none that .*; it has 32, 48, 80: take"):
            editor.edit(_request(64))


class CountingEditor(Editor):
    """Remembers how many requests it painted at a time."""

    counts: list[int]

    def paint_together(
        self, batch: Sequence[tuple[Conditioned, RoutePlan]], progress: Progress | None = None
    ) -> list[EditResult]:
        self.counts.append(len(batch))
        return super().paint_together(batch, progress)


def test_edits_that_agree_run_together_and_give_what_they_give_alone(opened: Bundle) -> None:
    requests = [
        *(_request(None, seed) for seed in range(6)),
        *(_request(48, seed) for seed in range(2)),
        _request(None, 9, steps=3),
    ]
    with CountingEditor.open(opened.folder) as editor:
        editor.counts = []
        alone = [editor.edit(request) for request in requests]
        assert editor.counts == [1] * len(requests)
        editor.counts.clear()
        together = dict(edits_by_route(editor, requests))
        assert sorted(editor.counts) == [1, 2, 2, 4]
    for place, one in enumerate(alone):
        other = together[place]
        assert isinstance(other, EditResult)
        assert (other.seed, other.steps, other.route) == (one.seed, one.steps, one.route)
        gap = np.array(other.image, np.int16) - np.array(one.image, np.int16)
        assert np.abs(gap).max() <= 1
        assert {"encode", "route", "denoise", "decode", "compose"} <= other.timings.keys()
    assert not np.array_equal(np.array(alone[0].image), np.array(alone[1].image))


def test_a_batch_is_its_samples(opened: Bundle) -> None:
    samples = read_held_out(opened.path(BUNDLED_SAMPLES))[:2]
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 2, 4, 64)).astype(np.float32)
    levels = np.array([1.0, 0.5, 0.0], np.float32)
    feeds: dict[str, Array] = {
        name: np.concatenate([sample.feeds[name] for sample in samples])
        for name in samples[0].feeds
    }
    with Editor.open(opened.folder) as editor:
        engine = editor.engines.denoiser(editor.routes.get(samples[0].table))
        both = _denoised(editor, engine, feeds, noise, levels)
        for place, sample in enumerate(samples):
            one = _denoised(editor, engine, sample.feeds, noise[place, None], levels)
            np.testing.assert_allclose(both[place, None], one, rtol=1e-3, atol=1e-4)


def _denoised(
    editor: Editor, engine: Engine, feeds: Mapping[str, Array], noise: Array, levels: Array
) -> Array:
    pooled, guidance = feeds["pooled"], feeds["guidance"]
    given = modulations(editor.engines.get("modulation"), pooled, guidance, levels)
    return denoise(engine, {name: feeds[name] for name in CONTEXT}, noise, levels, given)


def test_where_the_canvas_is_a_square_graphs_are_open_too() -> None:
    shapes = shapes_of("flux-fill")
    tiny = replace(
        shapes,
        transformer={**shapes.transformer, "num_layers": 1, "num_single_layers": 1},
        text_encoder={**shapes.text_encoder, "num_layers": 1},
        image_encoder={**shapes.image_encoder, "num_hidden_layers": 1},
    )
    assert tiny.mot.layout == "redux"
    with without_weights():
        checkpoint = fake_checkpoint(tiny, torch.float32)
    shared, openings = shared_parameters(checkpoint), Openings((256, 512, 1024), 4)
    routed = [f"{linear.name}.weight" for linear in checkpoint.linears]
    for name, graph in make_graphs(checkpoint).items():
        model = onnx_from_module(graph, shared, routed if name == "dit" else (), openings)
        (output,) = graph_spec(model, len(graph.input_names)).outputs
        assert output.shape[0] == -1, name
        assert len(openings.profiles(graph)) == (3 if graph.picture_dims else 1)


def test_refusals(tiny_settings: Callable[..., BuildSettings], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--sizes has 40; sides are multiples of 16 pixels"):
        tiny_settings(tmp_path / "x", sizes=(48, 40))
    with pytest.raises(RequestError, match="--batch is 0; it must be between 1 and 16"):
        tiny_settings(tmp_path / "x", batch=0)

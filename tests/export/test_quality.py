"""The gate's figures on an engine whose error is known, made of the torch model itself."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from a2edit.export.held_out import (
    EXAMPLES_FILE,
    SAMPLES_FILE,
    TRUTH_FILE,
    HeldOut,
    Truth,
    read_examples,
    read_held_out,
    read_truth,
    save_examples,
    save_samples,
    save_truth,
)
from a2edit.export.pixels import PSNR_MOST
from a2edit.export.quality import RouteFigure, graph_figure, route_figure, velocity_error
from a2edit.export.settings import BuildSettings
from a2edit.export.source import Source
from a2edit.model.experts import unmerged
from a2edit.model.graphs import GraphModule
from a2edit.runtime.engines.base import Array, CheckedEngine, GraphSpec, TensorSpec


class TorchEngine(CheckedEngine):
    """A graph in torch, its output changed by `change`."""

    def __init__(
        self, graph: GraphModule, change: Callable[[Array, Array], Array] = lambda out, _: out
    ) -> None:
        def specs(
            names: tuple[str, ...], values: tuple[torch.Tensor, ...]
        ) -> tuple[TensorSpec, ...]:
            return tuple(
                TensorSpec(name, str(value.dtype).removeprefix("torch."), tuple(value.shape))
                for name, value in zip(names, values, strict=True)
            )

        inputs = graph.example_inputs()
        with torch.no_grad():
            outputs = (graph(*inputs),)
        spec = GraphSpec(
            graph.graph_name, specs(graph.input_names, inputs), specs(graph.output_names, outputs)
        )
        super().__init__(spec)
        self._graph, self._change = graph, change

    @torch.no_grad()
    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = [torch.from_numpy(inputs[spec.name]) for spec in self.spec.inputs]
        found = self._graph(*tensors).numpy()
        return {self.spec.outputs[0].name: self._change(found, next(iter(inputs.values())))}

    def _bind(self, tensors: Mapping[str, Array]) -> None: ...
    def _unbind(self) -> None: ...
    def _close(self) -> None: ...


ENGINES = ("dit", "modulation", "vae_decoder")


@pytest.fixture(scope="module")
def source(checkpoint_folder: Path) -> Source:
    return Source(checkpoint_folder)


@pytest.fixture(scope="module")
def held(
    bundle: Path,
    source: Source,
    tiny_settings: Callable[..., BuildSettings],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[HeldOut], list[Truth]]:
    """Samples of the traces of a build, and the truth at the first one's own table."""
    (traces,) = (p for p in tiny_settings(bundle).cache.glob("traces-*") if len(p.name) == 31)
    folder = tmp_path_factory.mktemp("held")
    save_samples(folder, source, traces, None)
    samples = read_held_out(folder / SAMPLES_FILE)
    save_truth(folder, source, folder, samples[0].table)
    return samples, read_truth(folder / TRUTH_FILE)


def test_samples_are_the_calibration_sets_and_hold_their_pictures(
    source: Source, held: tuple[list[HeldOut], list[Truth]]
) -> None:
    samples, truths = held
    assert len(samples) == len(truths) == 2
    assert samples[0].category != samples[1].category
    with torch.no_grad():
        pictures = (torch.from_numpy(it)[None] for it in (samples[1].canvas, samples[1].mask))
        encoded = source.graphs["vae_encoder"](*pictures).numpy()
    assert np.array_equal(encoded, samples[1].feeds["conditioning"])
    steps = source.checkpoint.config.steps
    assert sorted(truths[0].points) == sorted({0, steps // 2, steps - 1})
    assert truths[0].levels[0] == 1
    assert truths[0].levels[-1] == 0


def test_the_model_itself_passes_with_nothing_to_see(
    source: Source, held: tuple[list[HeldOut], list[Truth]]
) -> None:
    samples, truths = held
    table = torch.from_numpy(samples[0].table)[None]
    dit, modulation, decoder = (TorchEngine(source.graphs[name]) for name in ENGINES)
    with unmerged(source.checkpoint.transformer, source.checkpoint.experts, table):
        figure, pictures = route_figure(
            dit, modulation, decoder, samples, truths, tolerance=1e-5, least_psnr_db=60
        )
    assert figure.passed
    assert figure.error < 1e-6
    assert figure.pictures["mask"].psnr_db > 60
    assert {"mask", "band"} <= set(figure.pictures)  # a small picture has no outside
    assert [picture.shape for picture in pictures] == [truth.pixels.shape for truth in truths]


def test_a_velocity_one_percent_too_long_is_an_error_of_one_percent(
    source: Source, held: tuple[list[HeldOut], list[Truth]]
) -> None:
    samples, truths = held
    modulation = TorchEngine(source.graphs["modulation"])
    engine = TorchEngine(source.dit, lambda out, latents: latents + 1.01 * (out - latents))
    table = torch.from_numpy(samples[0].table)[None]
    with unmerged(source.checkpoint.transformer, source.checkpoint.experts, table):
        error = velocity_error(engine, modulation, samples[0].feeds, truths[0])
    assert error == pytest.approx(1e-2)
    broken = TorchEngine(source.dit, lambda out, _: out * np.float32(np.nan))
    assert np.isnan(velocity_error(broken, modulation, samples[0].feeds, truths[0]))


def test_experts_that_sleep_are_seen_in_the_picture(
    source: Source, held: tuple[list[HeldOut], list[Truth]]
) -> None:
    samples, truths = held
    dit, modulation, decoder = (TorchEngine(source.graphs[name]) for name in ENGINES)
    figure, _ = route_figure(
        dit, modulation, decoder, samples, truths, tolerance=1e-5, least_psnr_db=60
    )
    assert not figure.passed
    assert figure.pictures["mask"].psnr_db < PSNR_MOST
    assert "velocity error" in figure.over
    assert set(figure.to_dict()) == {
        "relative_error",
        "tolerance",
        "pictures",
        "least_psnr_db",
    }


def test_a_picture_can_fail_where_the_velocity_passes(
    held: tuple[list[HeldOut], list[Truth]], source: Source
) -> None:
    samples, truths = held
    inverted = TorchEngine(source.graphs["vae_decoder"], lambda out, _: 255 - out)
    table = torch.from_numpy(samples[0].table)[None]
    with unmerged(source.checkpoint.transformer, source.checkpoint.experts, table):
        figure, _ = route_figure(
            TorchEngine(source.dit),
            TorchEngine(source.graphs["modulation"]),
            inverted,
            samples,
            truths,
            tolerance=1e-5,
            least_psnr_db=30,
        )
    assert isinstance(figure, RouteFigure)
    assert figure.error < 1e-5
    assert not figure.passed
    assert "dB, 30 dB needed" in figure.over


def test_every_other_graph_is_compared_on_its_examples(source: Source, tmp_path: Path) -> None:
    save_examples(tmp_path, source, None)
    examples = read_examples(tmp_path / EXAMPLES_FILE)
    assert examples.keys() == source.graphs.keys() - {"dit"}
    for name, example in examples.items():
        engine = TorchEngine(source.graphs[name])
        assert graph_figure(engine, example, 0.0).passed, name
    off = TorchEngine(source.graphs["gate"], lambda out, _: out * np.float32(1.5))
    figure = graph_figure(off, examples["gate"], 0.1)
    assert figure.error == pytest.approx(0.5)
    assert not figure.passed

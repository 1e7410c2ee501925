"""Every engine of a target against what the torch model makes of held-out requests."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from a2edit.calibration.policy import LEAST_PSNR_DB, merged_psnr_db, merged_tolerance
from a2edit.export.chain import Made
from a2edit.export.edge import read_graph
from a2edit.export.files import write_json
from a2edit.export.held_out import (
    EXAMPLES_FILE,
    SAMPLES_FILE,
    TRUTH_FILE,
    read_examples,
    read_held_out,
    read_truth,
)
from a2edit.export.pixels import Pixels
from a2edit.export.quality import Figure, RouteFigure, graph_figure, route_figure
from a2edit.export.source import DIT, HEAD, MODULATION, TAIL
from a2edit.export.steps.cached import CacheFigure, cache_figure, cache_section
from a2edit.export.steps.calibrate import read_alone
from a2edit.export.steps.merge import save_weight_set
from a2edit.export.steps.runner import is_here, runnable, twin
from a2edit.export.verify import MERGED, check
from a2edit.runtime.engines.base import Engine, WeightSet
from a2edit.runtime.manifest import StepCacheEntry
from a2edit.runtime.step_cache import SkipRule
from a2edit.runtime.tensors import map_tensors

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route
    from a2edit.export.layer_errors import LayerError
    from a2edit.export.source import Source
    from a2edit.export.targets import TargetPlan

PICTURES_FILE = "pictures.safetensors"
_DECODER = "vae_decoder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What is verified, as finished steps.

    Attributes:
        samples: held-out requests.
        examples: inputs and outputs of the graphs.
        truths: of the samples, by route.
        weights: by route.
        engines: by graph or "dit.<route>".
        graphs: the target's variants by graph.
        shared: parameters that the graphs point to.
        ranges: of an 8-bit denoiser; None of another.
        step_cache: as the manifest has it, where the engines have the denoiser in two.
        small_base: what is merged from on demand, where its base is in 8 bits.
    """

    samples: Made
    examples: Made
    truths: Mapping[str, Made]
    weights: Mapping[str, Made]
    engines: Mapping[str, Made]
    graphs: Mapping[str, Made]
    shared: Made
    ranges: Made | None
    step_cache: StepCacheEntry | None = None
    small_base: Made | None = None

    @property
    def keys(self) -> dict[str, str]:
        """Everything that the figures depend on."""
        truths = {f"truth-{name}": made for name, made in self.truths.items()}
        held = {"held-out": self.samples, "examples": self.examples}
        made = {**held, **truths, **self.weights, **self.engines}
        if self.small_base:
            made["merge-base"] = self.small_base
        return {name: it.key for name, it in made.items()}


def save_verification(
    folder: Path,
    source: Source,
    plan: TargetPlan,
    routes: Sequence[Route],
    made: Verified,
    *,
    accept: bool,
) -> None:
    """verification.json, and pictures.safetensors: "<route>.<place>" u8 [S,S,3] of every sample.

    Raises:
        EngineError: a figure is out of tolerance, and that is not accepted.
    """
    graphs = _graphs(plan, made)
    found, pictures = _routes(plan, routes, made)
    layers: list[LayerError] = []
    # A CPU's bf16 engine rounds by itself: there is no graph that shows where.
    if plan.denoiser.quantised or plan.denoiser.rest == "bf16":
        worst = max(routes, key=lambda route: found[route.name].error)
        layers = _layers(source, plan, worst, made)
    figures: dict[str, Figure] = {**graphs, **{f"route {name}": it for name, it in found.items()}}
    alone = read_alone(made.ranges.folder) if made.ranges else None
    cached = _cached(plan, routes, made, pictures)
    figures |= {f"step cache {name}": it for name, it in cached.items()}
    merged = _merged(plan, routes, made)
    figures |= {f"{MERGED} {name}": it for name, it in merged.items()}
    accepted = check(figures, layers, alone, accept=accept)
    about: dict[str, Any] = {
        "runner": plan.backend if is_here(plan.target) else "onnxruntime, the same graphs",
        "graphs": {name: figure.to_dict() for name, figure in graphs.items()},
        "routes": {name: figure.to_dict() for name, figure in found.items()},
    }
    if made.step_cache:
        about["step_cache"] = cache_section(made.step_cache.threshold, cached)
    if merged:
        about["merged"] = {name: figure.to_dict() for name, figure in merged.items()}
    if accepted:
        about["accepted"] = accepted
    if layers:
        about["layers"] = [layer.to_dict() for layer in layers]
    write_json(folder / "verification.json", about)
    save_file(dict(sorted(pictures.items())), folder / PICTURES_FILE)


def _graphs(plan: TargetPlan, made: Verified) -> dict[str, Figure]:
    examples, found = read_examples(made.examples.folder / EXAMPLES_FILE), {}
    for name, engine in made.engines.items():
        if name in examples:
            with runnable(name, plan, engine, made.graphs[name], made.shared) as opened:
                found[name] = graph_figure(opened, examples[name], plan.policy(name).tolerance)
    return found


def _routes(
    plan: TargetPlan, routes: Sequence[Route], made: Verified
) -> tuple[dict[str, RouteFigure], dict[str, Pixels]]:
    found: dict[str, RouteFigure] = {}
    pictures: dict[str, Pixels] = {}

    def engine(name: str) -> AbstractContextManager[Engine]:
        graph = made.graphs[name.partition(".")[0]]
        return runnable(name, plan, made.engines[name], graph, made.shared)

    def verify(route: Route, denoiser: Engine, modulation: Engine, decoder: Engine) -> None:
        if denoiser.spec.weights:
            denoiser.bind(_weight_set(made, route.name))
        found[route.name], painted = route_figure(
            denoiser,
            modulation,
            decoder,
            read_held_out(made.samples.folder / SAMPLES_FILE),
            read_truth(made.truths[route.name].folder / TRUTH_FILE),
            tolerance=plan.denoiser.tolerance,
            least_psnr_db=LEAST_PSNR_DB[plan.denoiser.precision],
        )
        pictures.update({f"{route.name}.{place}": it for place, it in enumerate(painted)})

    with engine(MODULATION) as modulation, engine(_DECODER) as decoder:
        if DIT in made.engines:
            with engine(DIT) as denoiser:
                for route in routes:
                    verify(route, denoiser, modulation, decoder)
        else:
            for route in routes:
                with engine(f"{DIT}.{route.name}") as denoiser:
                    verify(route, denoiser, modulation, decoder)
    return found, pictures


def _merged(plan: TargetPlan, routes: Sequence[Route], made: Verified) -> dict[str, RouteFigure]:
    """Every route merged from the base in 8 bits, as on demand; nothing where the base is whole."""
    if made.small_base is None:
        return {}
    samples = read_held_out(made.samples.folder / SAMPLES_FILE)
    found = {}
    with ExitStack() as opened:
        # baked, the runtime runs the graph itself for what it merges
        denoiser, modulation, decoder = (
            opened.enter_context(
                runnable(name, plan, made.engines.get(name), made.graphs[name], made.shared)
            )
            for name in (DIT, MODULATION, _DECODER)
        )
        for route in routes:
            with tempfile.TemporaryDirectory() as folder:
                # in a file, as those that are built ahead: a route may be larger than memory
                save_weight_set(Path(folder), made.small_base.folder, denoiser.spec.weights, route)
                denoiser.bind(_mapped(Path(folder), route.name))
                found[route.name], _ = route_figure(
                    denoiser,
                    modulation,
                    decoder,
                    samples,
                    read_truth(made.truths[route.name].folder / TRUTH_FILE),
                    tolerance=merged_tolerance(plan.denoiser),
                    least_psnr_db=merged_psnr_db(plan.denoiser),
                )
                denoiser.unbind()
    return found


def _cached(
    plan: TargetPlan, routes: Sequence[Route], made: Verified, pictures: Mapping[str, Pixels]
) -> dict[str, CacheFigure]:
    """Every route with the step cache; nothing where there is none."""
    entry = made.step_cache
    if entry is None:
        return {}
    samples = read_held_out(made.samples.folder / SAMPLES_FILE)
    found = {}
    with ExitStack() as opened:
        head, tail, modulation, decoder = (
            opened.enter_context(
                runnable(name, plan, made.engines[name], made.graphs[name], made.shared)
            )
            for name in (HEAD, TAIL, MODULATION, _DECODER)
        )
        for route in routes:
            for engine in (head, tail):
                engine.bind(_weight_set(made, route.name))
            found[route.name] = cache_figure(
                (head, tail),
                modulation,
                decoder,
                SkipRule.of_route(entry, route.name),
                samples,
                read_truth(made.truths[route.name].folder / TRUTH_FILE),
                [pictures[f"{route.name}.{place}"] for place in range(len(samples))],
                plan.denoiser.tolerance,
            )
    return found


def _layers(source: Source, plan: TargetPlan, route: Route, made: Verified) -> list[LayerError]:
    """Of the route that errs most, at the loop's last step, where quantised inputs err most."""
    from a2edit.export.layer_errors import layer_errors

    (sample, *_), (truth, *_) = (
        read_held_out(made.samples.folder / SAMPLES_FILE),
        read_truth(made.truths[route.name].folder / TRUTH_FILE),
    )
    graph = made.graphs[DIT]
    with tempfile.TemporaryDirectory() as folder:
        return layer_errors(
            source.checkpoint,
            source.dit,
            twin(DIT, plan, graph, made.shared, Path(folder)),
            read_graph(graph.folder, "").spec(DIT),
            _weight_set(made, route.name),
            sample,
            truth,
            np.asarray(route.table, np.float32),
            max(truth.points),
        )


def _weight_set(made: Verified, route: str) -> WeightSet:
    return _mapped(made.weights[route].folder, route)


def _mapped(folder: Path, route: str) -> WeightSet:
    tensors = map_tensors(folder / f"{route}.safetensors", writable=True).tensors
    return WeightSet(route, {key: tensor.array for key, tensor in tensors.items()})

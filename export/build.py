"""Checkpoint → bundle, as a chain of steps (docs/architecture.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from a2edit.export.bundle import Pieces, read_graph, save_bundle, write_graph
from a2edit.export.chain import Chain, Made, Progress
from a2edit.export.compile import openvino as compiler
from a2edit.export.settings import BuildSettings, build_code_hash, sample_code_hash, tool_versions
from a2edit.runtime.errors import EngineError

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route
    from a2edit.calibration.traces import EncodedSample
    from a2edit.model.checkpoint import Checkpoint
    from a2edit.model.graphs import DitGraph, GraphModule
    from a2edit.runtime.metric import RouteMetric

DIT = "dit"
GRAPH_NAMES = (
    "vae_encoder",
    "text_encoder",
    "pooled_encoder",
    "image_encoder",
    "gate",
    DIT,
    "vae_decoder",
)
# Requests that activation ranges and verification run the denoiser on: one a category of UniEdit.
_RANGE_SAMPLES = 8
_VERIFY_SAMPLES = 2
_FEEDS = ("conditioning", "text_tokens", "reference_tokens", "pooled")


def build(settings: BuildSettings, progress: Progress) -> str:
    """Build a bundle at `settings.out`; returns its hash.

    Raises:
        CheckpointError: the model is missing or broken.
        TargetError: the processor lacks the precision.
        EngineError: a graph cannot be exported or compiled, or an engine is out of tolerance.
    """
    from a2edit.model.checkpoint import find_checkpoint

    _, capabilities = compiler.processor()
    precision = compiler.choose_precision(settings.precision, capabilities)
    source = _Source(find_checkpoint(settings.model))
    chain = Chain(settings.cache, progress)
    chain.open()
    with _one_thread():
        try:
            pieces = _Build(settings, precision, source, chain).pieces()
        except EngineError as error:
            # "auto" promises the fastest that repeats the model, and bf16 alone may fail to.
            if settings.precision != "auto" or precision == "fp32":
                raise
            progress.note(f"{precision} does not pass, building fp32: {error}")
            pieces = _Build(settings, "fp32", source, chain).pieces()
        return save_bundle(pieces, source.checkpoint)


class _Source:
    """A checkpoint that is read when a step needs it: a build whose steps are done never does."""

    def __init__(self, folder: Path) -> None:
        from a2edit.model.checkpoint import folder_hash

        self.folder = folder
        self.hash = folder_hash(folder)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        from a2edit.model.checkpoint import Checkpoint

        return Checkpoint.load(self.folder)

    @cached_property
    def graphs(self) -> dict[str, GraphModule]:
        from a2edit.model.graphs import make_graphs

        return make_graphs(self.checkpoint)

    @property
    def dit(self) -> DitGraph:
        from a2edit.model.graphs import DitGraph

        graph = self.graphs[DIT]
        assert isinstance(graph, DitGraph)
        return graph

    @cached_property
    def metric(self) -> RouteMetric:
        from a2edit.calibration.gram import checkpoint_metric

        return checkpoint_metric(self.checkpoint)


@dataclass(frozen=True, slots=True)
class _Build:
    """One precision's steps; `pieces` runs them all, in the order of docs/architecture.md."""

    settings: BuildSettings
    precision: str
    source: _Source
    chain: Chain

    def pieces(self) -> Pieces:
        base = {"checkpoint": self.source.hash, "code": build_code_hash(), "tools": tool_versions()}
        shared = self.chain.run("shared", base, self._save_shared)
        drawn = {"samples": self.settings.samples, "drawing": sample_code_hash()}
        traces = self.chain.run("traces", {**base, **drawn}, self._trace)
        ranges = None
        if self.precision == "int8":
            ranges = self.chain.run("ranges", {"traces": traces.key}, self._ranges(traces))
        graphs = self._export(shared, ranges, base)
        metric = {"traces": traces.key, "count": self.settings.routes}
        clustered = self.chain.run("routes", metric, self._cluster(traces))
        routes = _read_routes(clustered)
        weights = self._merge(routes, clustered)
        engines = self._compile(graphs, shared, weights)
        keys = {name: made.key for name, made in {**engines, **weights}.items()}
        verified = self.chain.run(
            "verify",
            {"traces": traces.key, "routes": clustered.key, "made": keys},
            self._verify(traces, routes, weights, engines, graphs),
        )
        return Pieces(
            settings=self.settings,
            precision={name: self._precision_of(name) for name in GRAPH_NAMES},
            checkpoint_hash=self.source.hash,
            shared=shared,
            graphs=graphs,
            weights=weights,
            engines=engines,
            routes=routes,
            routes_step=clustered,
            verified=verified,
        )

    def _precision_of(self, graph: str) -> str:
        """Only the denoiser, nearly all of the time, leaves fp32; the gate must not (§11.2)."""
        return self.precision if graph.partition(".")[0] == DIT else "fp32"

    def _save_shared(self, folder: Path) -> None:
        from a2edit.export.onnx_export import SHARED_FILE
        from a2edit.export.weights import save_shared

        save_shared(self.source.checkpoint, folder / SHARED_FILE)

    def _trace(self, folder: Path) -> None:
        from a2edit.calibration.traces import drawn_requests, encode

        requests = drawn_requests(self.source.checkpoint, self.settings.samples)
        samples = list(encode(self.source.graphs, requests))
        kept = samples[:_RANGE_SAMPLES]
        arrays: dict[str, Any] = {"tables": np.stack([sample.table for sample in samples])}
        for place, sample in enumerate(kept):
            arrays |= {f"{place}.{key}": sample.feeds[key].numpy() for key in _FEEDS}
        save_file(dict(sorted(arrays.items())), folder / "traces.safetensors")
        _write_json(folder / "categories.json", [sample.category for sample in samples])

    def _ranges(self, traces: Made) -> Any:
        def work(folder: Path) -> None:
            from a2edit.calibration.ranges import activation_ranges

            samples = _read_samples(traces, _RANGE_SAMPLES)
            ranges = activation_ranges(self.source.checkpoint, self.source.dit, samples)
            _write_json(folder / "ranges.json", ranges)

        return work

    def _export(
        self, shared: Made, ranges: Made | None, base: Mapping[str, Any]
    ) -> dict[str, Made]:
        def work(name: str) -> Any:
            def export(folder: Path) -> None:
                from a2edit.export.onnx_export import SHARED_FILE, onnx_from_module, save_onnx
                from a2edit.export.weights import places, shared_parameters

                checkpoint = self.source.checkpoint
                routed = [f"{linear.name}.weight" for linear in checkpoint.linears]
                model = onnx_from_module(
                    self.source.graphs[name],
                    shared_parameters(checkpoint),
                    routed if name == DIT else (),
                    _read_json(ranges.folder / "ranges.json") if ranges and name == DIT else None,
                )
                write_graph(model, len(self.source.graphs[name].input_names), folder)
                save_onnx(model, places(shared.folder / SHARED_FILE), folder / f"{name}.onnx")

            return export

        made = {}
        for name in GRAPH_NAMES:
            ranges_key = ranges.key if ranges and name == DIT else None
            inputs = {**base, "shared": shared.key, "ranges": ranges_key}
            made[name] = self.chain.run(f"graph-{name}", inputs, work(name))
        return made

    def _cluster(self, traces: Made) -> Any:
        def work(folder: Path) -> None:
            from a2edit.calibration.routes import cluster_routes

            tables = load_file(traces.folder / "traces.safetensors")["tables"]
            categories = _read_json(traces.folder / "categories.json")
            metric = self.source.metric
            routes = cluster_routes(tables, categories, metric, self.settings.routes)
            _write_json(
                folder / "routes.json",
                {
                    "routes": [
                        {**_fields(route), "table": route.table.tolist()} for route in routes
                    ],
                    "gram": metric.gram.tolist(),
                    "energy": metric.energy,
                },
            )

        return work

    def _merge(self, routes: list[Route], clustered: Made) -> dict[str, Made]:
        def work(route: Route) -> Any:
            def merge(folder: Path) -> None:
                from a2edit.export.weights import merged_weights, save_weights

                weights = merged_weights(self.source.checkpoint, route.table, self.precision)
                save_weights(weights, folder / f"{route.name}.safetensors")

            return merge

        made = {}
        for route in routes:
            stored = "int8" if self.precision == "int8" else "fp32"
            inputs = {"routes": clustered.key, "route": route.name, "stored": stored}
            made[route.name] = self.chain.run(f"weights-{route.name}", inputs, work(route))
        return made

    def _compile(
        self, graphs: Mapping[str, Made], shared: Made, weights: Mapping[str, Made]
    ) -> dict[str, Made]:
        from a2edit.export.bake import bake, link_or_copy
        from a2edit.export.onnx_export import SHARED_FILE

        def work(name: str, route: Made | None) -> Any:
            graph = name.partition(".")[0]

            def compile_engine(folder: Path) -> None:
                onnx, parts = graphs[graph].folder / f"{graph}.onnx", folder / "parts"
                parts.mkdir()
                if route is None:
                    link_or_copy(onnx, parts / onnx.name)
                    link_or_copy(shared.folder / SHARED_FILE, parts / SHARED_FILE)
                else:
                    found = next(route.folder.glob("*.safetensors"))
                    bake(onnx, shared.folder / SHARED_FILE, found, parts)
                compiler.engine_from_onnx(
                    parts / onnx.name, folder / f"{name}.blob", self._precision_of(graph)
                )
                for part in parts.iterdir():
                    part.unlink()
                parts.rmdir()

            return compile_engine

        wanted: dict[str, Made | None] = dict.fromkeys(graphs)
        if self.settings.materialise == "baked":
            del wanted[DIT]
            wanted |= {f"{DIT}.{route}": made for route, made in weights.items()}
        made = {}
        for name, route in wanted.items():
            inputs = {
                "graph": graphs[name.partition(".")[0]].key,
                "shared": shared.key,
                "route": route.key if route else None,
                "precision": self._precision_of(name),
                "processor": compiler.processor(),
            }
            made[name] = self.chain.run(f"engine-{name}", inputs, work(name, route))
        return made

    def _verify(
        self,
        traces: Made,
        routes: list[Route],
        weights: Mapping[str, Made],
        engines: Mapping[str, Made],
        exported: Mapping[str, Made],
    ) -> Any:
        def work(folder: Path) -> None:
            from a2edit.export import verify
            from a2edit.runtime.engines.base import GraphSpec, WeightSet
            from a2edit.runtime.engines.openvino import engine_from_blob

            checkpoint, graphs = self.source.checkpoint, self.source.graphs
            samples = _read_samples(traces, _VERIFY_SAMPLES)
            by_graph, by_route = {}, {}
            for name, made in engines.items():
                graph, _, baked = name.partition(".")
                spec = read_graph(exported[graph].folder, "").spec(graph)
                if baked:
                    spec = GraphSpec(name, spec.inputs, spec.outputs)
                precision = self._precision_of(graph)
                with engine_from_blob(spec, made.folder / f"{name}.blob", precision) as engine:
                    if graph != DIT:
                        by_graph[name] = verify.verify_graph(graphs[graph], engine, precision)
                    for route in routes:
                        if graph != DIT or baked not in {"", route.name}:
                            continue
                        if not baked:
                            file = weights[route.name].folder / f"{route.name}.safetensors"
                            engine.bind(WeightSet(route.name, load_file(file)))
                        by_route[route.name] = verify.verify_route(
                            checkpoint, self.source.dit, engine, route, samples, precision
                        )
            verify.check({**by_graph, **{f"route {k}": v for k, v in by_route.items()}})
            _write_json(
                folder / "verification.json",
                {
                    "graphs": {name: figure.to_dict() for name, figure in by_graph.items()},
                    "routes": {name: figure.to_dict() for name, figure in by_route.items()},
                },
            )

        return work


@contextmanager
def _one_thread() -> Iterator[None]:
    """Calibration and merging on one thread: sums must not depend on how many cores there are."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def _read_samples(traces: Made, count: int) -> list[EncodedSample]:
    import torch

    from a2edit.calibration.traces import EncodedSample

    arrays = load_file(traces.folder / "traces.safetensors")
    categories = _read_json(traces.folder / "categories.json")
    return [
        EncodedSample(
            categories[place],
            {key: torch.from_numpy(arrays[f"{place}.{key}"]) for key in _FEEDS},
            arrays["tables"][place],
        )
        for place in range(min(count, len(categories)))
    ]


def _read_routes(made: Made) -> list[Route]:
    from a2edit.calibration.routes import Route

    found = _read_json(made.folder / "routes.json")["routes"]
    routes = [Route(**entry) for entry in found]
    return [replace(route, table=np.array(route.table, dtype=np.float32)) for route in routes]


def _fields(route: Route) -> dict[str, Any]:
    return {name: getattr(route, name) for name in ("name", "members", "predicted_error")}


def _read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, sort_keys=True, allow_nan=False), encoding="utf-8")

"""Checkpoint → bundle, as a chain of steps (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2edit.export.bundle import Pieces, read_graph, save_bundle, weight_set_bytes
from a2edit.export.chain import Chain, Made, Progress
from a2edit.export.compile import openvino as compiler
from a2edit.export.settings import (
    BuildSettings,
    build_code_hash,
    route_code_hash,
    sample_code_hash,
    tool_versions,
)
from a2edit.export.source import DIT, GRAPH_NAMES, Source, data_hash
from a2edit.export.steps.calibrate import (
    TRACED_AT_ONCE,
    join_parts,
    read_metric,
    save_metric,
    save_part,
    save_ranges,
)
from a2edit.export.steps.choose import read_routes, save_routes
from a2edit.export.steps.engines import save_engine
from a2edit.export.steps.graphs import save_graph
from a2edit.export.steps.verified import save_verification
from a2edit.runtime.errors import EngineError

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route


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
    source = Source(find_checkpoint(settings.model))
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


@dataclass(frozen=True, slots=True)
class _Build:
    """One precision's steps; `pieces` runs them all, in the order of docs/architecture.md.

    A step's inputs say everything that its result depends on: of an earlier step, its key.
    """

    settings: BuildSettings
    precision: str
    source: Source
    chain: Chain

    def pieces(self) -> Pieces:
        base = {"checkpoint": self.source.hash, "code": build_code_hash(), "tools": tool_versions()}
        shared = self.chain.run("shared", base, self._save_shared)
        traces = self._trace(base)
        ranges = self._ranges(traces) if self.precision == "int8" else None
        graphs = {name: self._graph(name, shared, ranges, base) for name in GRAPH_NAMES}
        metric = self._metric(traces)
        chosen = self._choose(traces, metric, graphs[DIT])
        routes = read_routes(chosen.folder)
        weights = {route.name: self._merge(route, chosen) for route in routes}
        engines = self._compile(graphs, shared, weights)
        verified = self._verify(traces, chosen, weights, engines, graphs)
        return Pieces(
            settings=self.settings,
            precision={name: self._precision_of(name) for name in GRAPH_NAMES},
            checkpoint_hash=self.source.hash,
            shared=shared,
            graphs=graphs,
            weights=weights,
            engines=engines,
            routes=routes,
            metric=read_metric(metric.folder),
            verified=verified,
        )

    def _precision_of(self, graph: str) -> str:
        """Only the denoiser, nearly all of the time, leaves fp32; the gate must not (§11.2)."""
        return self.precision if graph.partition(".")[0] == DIT else "fp32"

    def _save_shared(self, folder: Path) -> None:
        from a2edit.export.onnx_export import SHARED_FILE
        from a2edit.export.weights import save_shared

        save_shared(self.source.checkpoint, folder / SHARED_FILE)

    def _trace(self, base: Mapping[str, Any]) -> Made:
        """In parts, each a step, so that a killed build goes on after the last."""
        total, data = self.settings.samples, self.settings.calibration
        drawn = {"data": data_hash(data) if data else None, "drawing": sample_code_hash()}
        parts = []
        for first in range(0, total, TRACED_AT_ONCE):
            count = min(TRACED_AT_ONCE, total - first)
            name = f"traces-{first:04}"
            tick = partial(self._traced, name, first)
            work = partial(
                save_part, source=self.source, data=data, first=first, count=count, tick=tick
            )
            parts.append(self.chain.run(name, {**base, **drawn, "first": first, "n": count}, work))
        folders = [part.folder for part in parts]
        keys = {"parts": [part.key for part in parts]}
        return self.chain.run("traces", keys, lambda f: join_parts(f, folders))

    def _traced(self, step: str, first: int, count: int) -> None:
        self.chain.progress.at(step, first + count, self.settings.samples)

    def _ranges(self, traces: Made) -> Made:
        inputs = {"traces": traces.key}
        return self.chain.run(
            "ranges", inputs, lambda f: save_ranges(f, self.source, traces.folder)
        )

    def _graph(self, name: str, shared: Made, ranges: Made | None, base: Mapping[str, Any]) -> Made:
        used = ranges if name == DIT else None
        inputs = {**base, "shared": shared.key, "ranges": used.key if used else None}
        return self.chain.run(
            f"graph-{name}",
            inputs,
            lambda f: save_graph(
                f, name, self.source, shared.folder, used.folder if used else None
            ),
        )

    def _metric(self, traces: Made) -> Made:
        inputs = {"traces": traces.key, "code": route_code_hash()}
        return self.chain.run(
            "metric", inputs, lambda f: save_metric(f, self.source, traces.folder)
        )

    def _choose(self, traces: Made, metric: Made, dit: Made) -> Made:
        limit = self.settings.limit
        size = weight_set_bytes(read_graph(dit.folder, ""))
        inputs = {
            "traces": traces.key,
            "metric": metric.key,
            "limit": asdict(limit),
            "set_bytes": size if limit.budget is not None else None,
        }
        return self.chain.run(
            "routes", inputs, lambda f: save_routes(f, traces.folder, metric.folder, limit, size)
        )

    def _merge(self, route: Route, chosen: Made) -> Made:
        from a2edit.export.weights import merged_weights, save_weights

        def work(folder: Path) -> None:
            weights = merged_weights(self.source.checkpoint, route.table, self.precision)
            save_weights(weights, folder / f"{route.name}.safetensors")

        stored = "int8" if self.precision == "int8" else "fp32"
        inputs = {"routes": chosen.key, "route": route.name, "stored": stored}
        return self.chain.run(f"weights-{route.name}", inputs, work)

    def _compile(
        self, graphs: Mapping[str, Made], shared: Made, weights: Mapping[str, Made]
    ) -> dict[str, Made]:
        wanted: dict[str, str | None] = dict.fromkeys(graphs)
        if self.settings.materialise == "baked":
            del wanted[DIT]
            wanted |= {f"{DIT}.{route}": route for route in weights}
        return {
            name: self._engine(name, graphs, shared, route, weights[route] if route else None)
            for name, route in wanted.items()
        }

    def _engine(
        self,
        name: str,
        graphs: Mapping[str, Made],
        shared: Made,
        route: str | None,
        weights: Made | None,
    ) -> Made:
        from a2edit.export.onnx_export import SHARED_FILE

        graph = name.partition(".")[0]
        precision = self._precision_of(graph)
        inputs = {
            "graph": graphs[graph].key,
            "shared": shared.key,
            "route": weights.key if weights else None,
            "precision": precision,
            "processor": compiler.processor(),
        }
        onnx, parameters = graphs[graph].folder / f"{graph}.onnx", shared.folder / SHARED_FILE
        inside = weights.folder / f"{route}.safetensors" if weights else None
        return self.chain.run(
            f"engine-{name}",
            inputs,
            lambda f: save_engine(f, name, onnx, parameters, precision, inside),
        )

    def _verify(
        self,
        traces: Made,
        chosen: Made,
        weights: Mapping[str, Made],
        engines: Mapping[str, Made],
        graphs: Mapping[str, Made],
    ) -> Made:
        keys = {name: made.key for name, made in {**engines, **weights}.items()}
        inputs = {"traces": traces.key, "routes": chosen.key, "made": keys}
        precision = {name: self._precision_of(name) for name in GRAPH_NAMES}

        def work(folder: Path) -> None:
            routes = read_routes(chosen.folder)
            save_verification(
                folder, self.source, traces.folder, routes, weights, engines, graphs, precision
            )

        return self.chain.run("verify", inputs, work)


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

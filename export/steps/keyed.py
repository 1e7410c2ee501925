"""Every step of a build under its key: a step's inputs say everything that its result depends on.

Of an earlier step that is its key, so that what changes in one is done again in all that follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from a2edit.export.chain import Chain, Made
from a2edit.export.compile import openvino as compiler
from a2edit.export.edge import read_graph, weight_set_bytes
from a2edit.export.settings import (
    BuildSettings,
    build_code_hash,
    range_code_hash,
    route_code_hash,
    sample_code_hash,
    tool_versions,
)
from a2edit.export.source import DIT, GRAPH_NAMES, Source, data_hash
from a2edit.export.steps import calibrate, choose, merge, page
from a2edit.export.steps.engines import save_engine
from a2edit.export.steps.graphs import save_graph
from a2edit.export.steps.verified import save_verification

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route


@dataclass(frozen=True)
class Steps:
    """One precision's steps; each method does one, or finds it done.

    `logged` are gate tables [T, L, N] of traffic, to make routes from beside the calibration set.
    """

    settings: BuildSettings
    precision: str
    source: Source
    chain: Chain
    logged: NDArray[np.float32] | None = None

    def precision_of(self, graph: str) -> str:
        """Only the denoiser, nearly all of the time, leaves fp32; the gate must not (§11.2)."""
        return self.precision if graph.partition(".")[0] == DIT else "fp32"

    @cached_property
    def _base(self) -> Mapping[str, Any]:
        return {
            "checkpoint": self.source.hash,
            "code": build_code_hash(),
            "tools": tool_versions(),
        }

    def shared(self) -> Made:
        def work(folder: Path) -> None:
            from a2edit.export.onnx_export import SHARED_FILE
            from a2edit.export.weights import save_shared

            save_shared(self.source.outline, self.source.folder, folder / SHARED_FILE)

        return self.chain.run("shared", self._base, work)

    def traces(self) -> Made:
        """In parts, each a step, so that a killed build goes on after the last."""
        total, data = self.settings.samples, self.settings.calibration
        drawn = {"data": data_hash(data) if data else None, "drawing": sample_code_hash()}
        parts = []
        for first in range(0, total, calibrate.TRACED_AT_ONCE):
            count = min(calibrate.TRACED_AT_ONCE, total - first)
            name = f"traces-{first:04}"
            work = partial(
                calibrate.save_part,
                source=self.source,
                data=data,
                first=first,
                count=count,
                tick=partial(self._traced, name, first),
            )
            inputs = {**self._base, **drawn, "first": first, "count": count}
            parts.append(self.chain.run(name, inputs, work))
        folders = [part.folder for part in parts]
        keys = {"parts": [part.key for part in parts]}
        return self.chain.run("traces", keys, partial(calibrate.join_parts, parts=folders))

    def _traced(self, step: str, first: int, count: int) -> None:
        self.chain.progress.at(step, first + count, self.settings.samples)

    def ranges(self, traces: Made) -> Made:
        work = partial(calibrate.save_ranges, source=self.source, traces=traces.folder)
        inputs = {"traces": traces.key, "code": range_code_hash()}
        return self.chain.run("ranges", inputs, work)

    def graph(self, name: str, shared: Made, ranges: Made | None) -> Made:
        used = ranges if name == DIT else None
        inputs = {**self._base, "shared": shared.key, "ranges": used.key if used else None}
        work = partial(
            save_graph,
            name=name,
            source=self.source,
            shared=shared.folder,
            ranges=used.folder if used else None,
        )
        return self.chain.run(f"graph-{name}", inputs, work)

    def metric(self, traces: Made) -> Made:
        inputs = {"traces": traces.key, "code": route_code_hash()}
        work = partial(calibrate.save_metric, source=self.source, traces=traces.folder)
        return self.chain.run("metric", inputs, work)

    def routes(self, traces: Made, metric: Made, dit: Made) -> Made:
        limit, logged = self.settings.limit, self.logged
        size = weight_set_bytes(read_graph(dit.folder, ""))
        inputs = {
            "traces": traces.key,
            "metric": metric.key,
            "limit": asdict(limit),
            "set_bytes": size if limit.budget is not None else None,
            "logged": sha256(logged.tobytes()).hexdigest() if logged is not None else None,
            "code": route_code_hash(),
        }
        work = partial(
            choose.save_routes,
            traces=traces.folder,
            metric=metric.folder,
            logged=logged,
            limit=limit,
            set_bytes=size,
        )
        return self.chain.run("routes", inputs, work)

    def merge_source(self, ranges: Made | None) -> Made:
        inputs = {**self._base, "ranges": ranges.key} if ranges else self._base
        folder = ranges.folder if ranges else None
        work = partial(merge.save_merge_source, source=self.source, ranges=folder)
        return self.chain.run("merge-source", inputs, work)

    def weight_set(self, route: Route, chosen: Made, source: Made, dit: Made) -> Made:
        weights = read_graph(dit.folder, "").weights
        inputs = {
            "routes": chosen.key,
            "route": route.name,
            "source": source.key,
            "weights": [str(spec) for spec in weights],
        }
        work = partial(merge.save_weight_set, merge=source.folder, weights=weights, route=route)
        return self.chain.run(f"weights-{route.name}", inputs, work)

    def engines(
        self, graphs: Mapping[str, Made], shared: Made, weights: Mapping[str, Made]
    ) -> dict[str, Made]:
        wanted: dict[str, str | None] = dict.fromkeys(graphs)
        if self.settings.materialise == "baked":
            del wanted[DIT]
            wanted |= {f"{DIT}.{route}": route for route in weights}
        return {
            name: self._engine(name, graphs[name.partition(".")[0]], shared, route, weights)
            for name, route in wanted.items()
        }

    def _engine(
        self, name: str, graph: Made, shared: Made, route: str | None, weights: Mapping[str, Made]
    ) -> Made:
        from a2edit.export.onnx_export import SHARED_FILE

        precision = self.precision_of(name)
        inputs = {
            "graph": graph.key,
            "shared": shared.key,
            "route": weights[route].key if route else None,
            "precision": precision,
            "processor": compiler.processor(),
        }
        work = partial(
            save_engine,
            name=name,
            onnx=graph.folder / f"{name.partition('.')[0]}.onnx",
            shared=shared.folder / SHARED_FILE,
            precision=precision,
            route=weights[route].folder / f"{route}.safetensors" if route else None,
        )
        return self.chain.run(f"engine-{name}", inputs, work)

    def page(
        self, traces: Made, metric: Made, chosen: Made, routes: Sequence[Route], dit: Made
    ) -> Made:
        about: dict[str, Any] = {
            "tolerance": self.settings.tolerance,
            "set_bytes": weight_set_bytes(read_graph(dit.folder, "")),
            "merges": not self.settings.routes_only,
        }
        inputs = {
            **about,
            "traces": traces.key,
            "metric": metric.key,
            "routes": chosen.key,
            "code": route_code_hash(),
        }
        work = partial(
            page.save_page,
            source=self.source,
            traces=traces.folder,
            metric=metric.folder,
            routes=routes,
            **about,
        )
        return self.chain.run("report", inputs, work)

    def verification(
        self,
        traces: Made,
        chosen: Made,
        routes: Sequence[Route],
        weights: Mapping[str, Made],
        engines: Mapping[str, Made],
        graphs: Mapping[str, Made],
    ) -> Made:
        keys = {name: made.key for name, made in {**engines, **weights}.items()}
        inputs = {"traces": traces.key, "routes": chosen.key, "made": keys}
        work = partial(
            save_verification,
            source=self.source,
            traces=traces.folder,
            routes=routes,
            weights=weights,
            engines=engines,
            graphs=graphs,
            precision={name: self.precision_of(name) for name in GRAPH_NAMES},
        )
        return self.chain.run("verify", inputs, work)

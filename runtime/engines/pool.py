"""The engines of a bundle, opened once and kept."""

import logging
from importlib import import_module
from typing import Any

from a2edit.runtime.bundle import Bundle
from a2edit.runtime.engines.base import CheckedEngine, Engine, GraphSpec, WeightSet
from a2edit.runtime.errors import BundleError, TargetError
from a2edit.runtime.manifest import EngineEntry
from a2edit.runtime.routing import RouteChoice, WeightSource

DEVICES = ("cpu",)
BACKENDS = ("openvino", "onnxruntime")
DENOISER = "dit"

log = logging.getLogger(__name__)


class EnginePool:
    """Opens the graphs of `bundle` for a device, by a backend.

    "auto" loads the engines that the bundle holds for the device. With another backend than
    theirs, or another version of it, the bundle's graphs are compiled here instead.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", backend: str = "auto") -> None:
        if device not in DEVICES:
            raise TargetError(f"device {device!r} is unknown: use {' or '.join(DEVICES)}")
        if backend != "auto" and backend not in BACKENDS:
            raise TargetError(f"engine {backend!r} is unknown: use auto, {', '.join(BACKENDS)}")
        self._bundle = bundle
        self._entries = bundle.manifest.engines.get(device, {})
        entry = next(iter(self._entries.values()), None)
        self.backend = backend if backend != "auto" else entry.backend if entry else BACKENDS[0]
        if self.backend not in BACKENDS:
            raise TargetError(
                f"the bundle's engines are for {self.backend!r}, which this a2edit does not "
                f"know: use --engine {' or '.join(BACKENDS)}"
            )
        self._module: Any = import_module(f"a2edit.runtime.engines.{self.backend}")
        self._engines: dict[str, CheckedEngine] = {}
        self._bound: WeightSet | None = None  # by the shared denoiser

    @property
    def _set_bytes(self) -> int:
        """What one weight set takes in memory."""
        return sum(spec.nbytes for spec in self._bundle.manifest.graphs[DENOISER].weights)

    @property
    def baked(self) -> bool:
        """Whether every route has an engine of its own, the weights constant."""
        own = [entry for name, entry in self._entries.items() if name.startswith(f"{DENOISER}.")]
        return bool(own) and all(map(self._loadable, own))

    def open_all(self) -> None:
        """Open what every edit needs, so that the edits' own times are pure."""
        for name in self._bundle.manifest.graphs:
            if name != DENOISER or not self.baked:
                self.get(name)

    def get(self, name: str) -> Engine:
        """The engine of a graph, opened at the first call."""
        if name not in self._engines:
            self._engines[name] = self._opened(name)
        return self._engines[name]

    def static_weights(self) -> WeightSource:
        """The weights that a route is bound by; none where its engine holds them."""
        if self.baked:
            return WeightSource(lambda plan: WeightSet(plan.weights, {}), 0)
        return WeightSource(lambda plan: self._bundle.weight_set(plan.weights), self._set_bytes)

    def merged_weights(self) -> WeightSource | None:
        """Weights for any table, merged from the experts; None where the bundle has none."""
        merger = self._bundle.merger()
        if merger is None:
            return None
        return WeightSource(lambda plan: merger.merge(plan.table, plan.weights), self._set_bytes)

    def denoiser(self, choice: RouteChoice) -> Engine:
        """The engine that runs `choice`: the route's own, or the shared one with it bound.

        The shared one of a baked bundle is compiled here, at the first route that is merged.
        """
        if self.baked and choice.supply == "static":
            return self.get(f"{DENOISER}.{choice.route}")
        engine = self.get(DENOISER)
        engine.bind(choice.weight_set)
        if self._bound is not None and self._bound is not choice.weight_set:
            self._bound.rest()
        self._bound = choice.weight_set
        return engine

    def release(self, weights: WeightSet) -> None:
        """Unbind `weights` if they are bound, so that nothing here keeps them in memory."""
        if weights is self._bound:
            self._bound = None
            self._engines[DENOISER].unbind()

    def close(self) -> None:
        self._bound = None
        while self._engines:
            self._engines.popitem()[1].close()

    def _opened(self, name: str) -> CheckedEngine:
        graphs = self._bundle.manifest.graphs
        graph = graphs.get(DENOISER if name.startswith(f"{DENOISER}.") else name)
        if graph is None:
            raise BundleError(
                f"{str(self._bundle.folder)!r} has no graph {name!r}; "
                f"it has {', '.join(sorted(graphs))}"
            )
        entry = self._entries.get(name)
        if entry is not None and self._loadable(entry):
            spec = graph.spec(name)
            if entry.materialise == "baked":
                spec = GraphSpec(name, spec.inputs, spec.outputs)
            path = self._bundle.path(entry.file)
            engine: CheckedEngine = self._module.engine_from_blob(spec, path, entry.precision)
        else:
            if entry is not None and entry.backend == self.backend:
                log.warning(
                    "%s was compiled by %s %s, here is %s: compiling its graph instead",
                    entry.file,
                    entry.backend,
                    entry.version,
                    self._module.backend_version(),
                )
            path = self._bundle.path(graph.file)
            engine = self._module.engine_from_onnx(graph.spec(name), path, self._precision(name))
        return engine

    def _precision(self, name: str) -> str:
        """What the bundle computes a graph in; the engines of a baked denoiser share theirs."""
        for of, entry in self._entries.items():
            if of.partition(".")[0] == name.partition(".")[0]:
                return entry.precision
        return "fp32"

    def _loadable(self, entry: EngineEntry) -> bool:
        return entry.backend == self.backend and entry.version == self._module.backend_version()

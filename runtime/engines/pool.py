"""The engines of a bundle, opened once and kept."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from typing import Any

from a2edit.runtime.bundle import Bundle
from a2edit.runtime.engines.base import CheckedEngine, Engine, WeightSet
from a2edit.runtime.engines.cuda import capability
from a2edit.runtime.errors import BundleError, TargetError
from a2edit.runtime.manifest import CACHE_GRAPHS, REBUILD, EngineEntry, GraphEntry
from a2edit.runtime.memory.costs import BackendCosts, costs_of, engine_footprints
from a2edit.runtime.memory.ledger import Ledger
from a2edit.runtime.memory.plans import Keep, Load, MemoryPlan, graph_of
from a2edit.runtime.memory.process import trim
from a2edit.runtime.merging import Merging
from a2edit.runtime.routing import RouteChoice, RoutePlan, WeightSource
from a2edit.runtime.targets import TARGETS, Precision, target_of

DEVICES = ("cpu", "cuda")
# Backends by the module that runs them; one that has several is told which.
MODULES: dict[str, tuple[str, tuple[str, ...]]] = {
    "openvino": ("openvino", ()),
    "onnxruntime": ("onnxruntime", ("onnxruntime",)),
    "onnxruntime-cuda": ("onnxruntime", ("onnxruntime-cuda",)),
    "onnxruntime-tensorrt": ("onnxruntime", ("onnxruntime-tensorrt",)),
    "tensorrt_rtx": ("tensorrt", ("tensorrt_rtx",)),
    "tensorrt": ("tensorrt", ("tensorrt",)),
    "inductor": ("inductor", ()),
}
CPU_BACKENDS = {"openvino", "onnxruntime", "inductor"}
CUDA_BACKENDS = MODULES.keys() - {"openvino", "onnxruntime"}
DENOISER, MODULATION = "dit", "modulation"

log = logging.getLogger(__name__)


class EnginePool:
    """Opens the graphs of `bundle` for a device, by a backend.

    "auto" loads the engines that the bundle holds for the device. With another backend than
    theirs, or another version of it, the bundle's graphs are compiled here instead.

    `split`: the denoiser is its head and its tail, of a bundle that has them (runtime.step_cache).
    """

    def __init__(
        self, bundle: Bundle, device: str = "cpu", backend: str = "auto", *, split: bool = False
    ) -> None:
        if device not in DEVICES:
            raise TargetError(f"device {device!r} is unknown: use {' or '.join(DEVICES)}")
        if backend != "auto" and backend not in MODULES:
            raise TargetError(f"engine {backend!r} is unknown: use auto, {', '.join(MODULES)}")
        fitting = CPU_BACKENDS if device == "cpu" else CUDA_BACKENDS
        if backend not in {"auto", *fitting}:
            raise TargetError(
                f"engine {backend!r} does not run on the device {device!r}: use auto, "
                f"{', '.join(sorted(fitting))}, or another --device"
            )
        self._bundle = bundle
        self.target = _target(bundle, device)
        self._entries = bundle.manifest.engines[self.target]
        entry = next(iter(self._entries.values()))
        self.backend = backend if backend != "auto" else entry.backend
        if self.backend not in MODULES:
            raise TargetError(
                f"the bundle's engines are for {self.backend!r}, which this a2edit does not "
                f"know: use --engine {' or '.join(MODULES)}"
            )
        module, self._which = MODULES[self.backend]
        self._module: Any = import_module(f"a2edit.runtime.engines.{module}")
        self._engines: dict[str, CheckedEngine] = {}  # the least recently opened first
        self._bound: WeightSet | None = None  # by the shared denoiser's engines
        self._denoisers = CACHE_GRAPHS if split else (DENOISER,)
        self.variant = self._variant(DENOISER)  # of the denoiser, and so of its weight sets
        self.ledger = Ledger()
        self._workspaces: dict[str, int] = {}  # that engines told of
        self._merging = Merging(bundle, self.variant, self.target)
        self._load = self._foreseen()
        self._plan = MemoryPlan(Keep.EVERYTHING, len(bundle.manifest.routes))

    @property
    def graph(self) -> GraphEntry:
        """The denoiser's."""
        return self._bundle.manifest.graphs[DENOISER][self.variant]

    @property
    def precision(self) -> Precision:
        """What the denoiser computes in."""
        return self._entry_of(DENOISER).precision

    @property
    def _set_bytes(self) -> int:
        """What one weight set takes in memory."""
        return sum(spec.nbytes for spec in self.graph.weights)

    @property
    def _modulation_bytes(self) -> int:
        """What a loop's modulation takes of the device: a GPU has that of one step alone."""
        if self.target != "cpu":
            return 0
        manifest = self._bundle.manifest
        (made,) = manifest.graphs[MODULATION][self._variant(MODULATION)].outputs
        return manifest.sampler.steps * made.nbytes_of((1, made.shape[-1]))

    @property
    def baked(self) -> bool:
        """Whether every route has an engine of its own, the weights constant."""
        own = [entry for name, entry in self._entries.items() if name.startswith(f"{DENOISER}.")]
        return bool(own) and all(map(self._loadable, own))

    @property
    def bound(self) -> WeightSet | None:
        """What the shared denoiser runs on."""
        return self._bound

    @property
    def costs(self) -> BackendCosts:
        """How the backend turns what the manifest says into memory."""
        return costs_of(self.backend, "cpu" if self.target == "cpu" else "cuda")

    def load(self) -> Load:
        """What engines and weight sets take, as far as it can be said now."""
        return self._load

    def open_all(self) -> None:
        """Open what every edit needs, so that the edits' own times are pure.

        Nothing under a plan that does not keep everything: its engines are opened when they run.
        """
        if self._plan.keep != Keep.EVERYTHING:
            return
        unused = {DENOISER, *CACHE_GRAPHS} - set(() if self.baked else self._denoisers)
        for name in self._bundle.manifest.graphs:
            if name not in unused:
                self.get(name)

    def make_room(self, plan: MemoryPlan, step: str) -> None:
        """Close the engines that `plan` does not keep open during `step`."""
        self._plan = plan
        for name in self._engines.keys() & self._load.engines if self._bound else ():
            if step != DENOISER and graph_of(name) == DENOISER:  # it has run
                self.ledger.hold(f"engine {name}", self._load.engines[name].held)
        self._close(name for name in self._engines if not plan.stays(name, step))
        if not plan.base_stays(step):
            self._merging.leave_gpu(self.ledger)

    def shut(self, step: str) -> None:
        """Close the engines of a step: after a failure nobody knows what state they are in."""
        self._close(name for name in self._engines if graph_of(name) == step)

    def get(self, name: str) -> Engine:
        """The engine of a graph, opened at the first call."""
        if name not in self._engines:
            foreseen = self._load.engines.get(name)
            opening = foreseen.held + foreseen.waiting + foreseen.opening if foreseen else 0
            with self.ledger.passing(f"engine {name}, opening", opening):
                engine = self._engines[name] = self._opened(name)
                if engine.spec.parameters:
                    engine.feed(self._bundle.parameters(engine.spec.parameters))
                trim()
            if engine.workspace is not None:
                self._workspaces[name] = engine.workspace
                self._load = self._foreseen()
            if name in self._load.engines:
                found = self._load.engines[name]
                self.ledger.hold(f"engine {name}", found.held + found.waiting)
        return self._engines[name]

    def static_weights(self) -> WeightSource:
        """The weights that a route is bound by; none where its engine holds them."""
        if self.baked:
            return WeightSource(lambda plan: WeightSet(plan.route, {}), 0)
        return WeightSource(
            lambda plan: self._bundle.weight_set(plan.route, self.variant), self._set_bytes
        )

    def merged_weights(self) -> WeightSource | None:
        """Weights for any table, merged from the experts; None where the bundle has none."""
        entry = self._bundle.manifest.merge
        if entry is None:
            return None

        def merged(plan: RoutePlan) -> WeightSet:
            on_gpu = self._plan.base
            weights = self._merging.merge(plan.table, plan.route, self.ledger, on_gpu=on_gpu)
            if self._load.base != self._merging.gpu_bytes:  # its kernels do not run after all
                self._load = self._foreseen()
            return weights

        return WeightSource(merged, self._set_bytes, entry.error)

    def denoiser(self, choice: RouteChoice) -> Engine:
        """The engine that runs `choice`: the route's own, or the shared one with it bound.

        The shared one of a baked bundle is compiled here, at the first route that is merged.
        """
        if self.baked and choice.supply == "static":
            name = f"{DENOISER}.{choice.route}"
            others = [it for it in self._engines if graph_of(it) == DENOISER and it != name]
            self._close(others[: max(0, len(others) + 1 - self._plan.sets)])
            return self.get(name)
        (engine,) = self._with_bound(choice.weight_set)
        return engine

    def head_and_tail(self, choice: RouteChoice) -> tuple[Engine, Engine]:
        """The denoiser in two, of a pool that is `split`, with the weights of `choice` bound."""
        head, tail = self._with_bound(choice.weight_set)
        return head, tail

    def _with_bound(self, weights: WeightSet) -> list[Engine]:
        """The shared denoiser's engines; each takes the weights of its own linears."""
        engines = [self.get(name) for name in self._denoisers]
        for engine in engines:
            engine.bind(weights)
        if self._bound is not None and self._bound is not weights:
            self._bound.rest()
        self._bound = weights
        return engines

    def release(self, weights: WeightSet) -> None:
        """Unbind `weights` if they are bound, so that nothing here keeps them in memory."""
        if weights is self._bound:
            self._bound = None
            for name in self._denoisers:
                self._engines[name].unbind()

    def close(self) -> None:
        self._close(self._engines)
        self._merging.leave_gpu(self.ledger)

    def _close(self, names: Iterable[str]) -> None:
        names = list(names)
        for name in names:
            if graph_of(name) == DENOISER and self._bound is not None:
                self._bound.rest()
                self._bound = None
            self._engines.pop(name).close()
            self.ledger.release(f"engine {name}")
        if names:
            trim()

    def _foreseen(self) -> Load:
        """From the manifest, and from what engines told when they were opened."""
        manifest, costs = self._bundle.manifest, self.costs
        unused = {DENOISER, *CACHE_GRAPHS} - set(self._denoisers)
        used = {name: entry for name, entry in self._entries.items() if name not in unused}
        return Load(
            engine_footprints(manifest, used, costs, self._workspaces),
            set_bytes=self._set_bytes,
            routes=len(manifest.routes),
            rests=costs.rests,
            merging=self._merging.peak_bytes,
            modulation=self._modulation_bytes,
            base=self._merging.gpu_bytes,
        )

    def _opened(self, name: str) -> CheckedEngine:
        kind = name.partition(".")[0]
        graphs = self._bundle.manifest.graphs
        if kind not in graphs:
            raise BundleError(
                f"{str(self._bundle.folder)!r} has no graph {name!r}; "
                f"it has {', '.join(sorted(graphs))}"
            )
        graph = graphs[kind][self._variant(kind)]
        entry = self._entries.get(name)
        if entry is not None and self._loadable(entry):
            spec = graph.spec(name)
            if entry.materialise == "baked":
                spec = replace(spec, weights=())
            path = self._bundle.path(entry.file)
            engine: CheckedEngine = self._module.engine_from_blob(
                spec, path, entry.precision, *self._which
            )
            return engine
        if entry is not None and entry.backend == self.backend:
            made = f"{entry.file} was compiled by {entry.backend} {entry.version}"
            here = self._module.backend_version(*self._which)
            if not hasattr(self._module, "engine_from_onnx"):
                raise TargetError(
                    f"{made}, here is {here}: install that version, or build the bundle again"
                )
            log.warning("%s, here is %s: compiling its graph instead", made, here)
        elif not hasattr(self._module, "engine_from_onnx"):
            made = ", ".join(sorted({entry.backend for entry in self._entries.values()}))
            raise TargetError(
                f"the engine {self.backend!r} runs what was built for it, and the engines of "
                f"{str(self._bundle.folder)!r} are {made}'s: use --engine auto, or build with "
                f"--backend {self.backend}"
            )
        path = self._bundle.path(graph.file)
        precision = self._entry_of(kind).precision
        compiled: CheckedEngine = self._module.engine_from_onnx(
            graph.spec(name), path, precision, *self._which
        )
        return compiled

    def _variant(self, graph: str) -> str:
        return self._entry_of(graph).variant

    def _entry_of(self, graph: str) -> EngineEntry:
        """What the bundle says of a graph here; the engines of a baked denoiser agree."""
        for name, entry in self._entries.items():
            if name.partition(".")[0] == graph:
                return entry
        raise BundleError(f"{str(self._bundle.folder)!r} has no engine for {graph!r}: {REBUILD}")

    def _loadable(self, entry: EngineEntry) -> bool:
        if entry.backend != self.backend:
            return False
        return bool(entry.version == self._module.backend_version(*self._which))


def _target(bundle: Bundle, device: str) -> str:
    """Which of the bundle's targets a device is; of several GPUs, the one at hand."""
    engines = bundle.manifest.engines
    held = [name for name in engines if name in TARGETS and TARGETS[name].device == device]
    here = f"the device {device!r}"
    if device == "cuda" and held:
        gpu = target_of(capability()).name
        held, here = [name for name in held if name == gpu], f"this GPU ({gpu})"
    if not held:
        raise TargetError(
            f"{str(bundle.folder)!r} has no engines for {here}; it has some for "
            f"{', '.join(sorted(engines)) or 'nothing'}: build with another --target, or give "
            "another --device"
        )
    return held[0]

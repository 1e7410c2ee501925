"""What runs a step's engine here: the engine itself, or the same graph where it cannot."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from a2edit.export.compile import engine_file
from a2edit.export.edge import graph_file, read_graph
from a2edit.export.files import link_or_copy
from a2edit.runtime.engines.base import CheckedEngine, Engine, GraphSpec
from a2edit.runtime.tensors import pick_tensors

if TYPE_CHECKING:
    from a2edit.export.chain import Made
    from a2edit.export.targets import TargetPlan
    from a2edit.runtime.targets import Precision, Target


@contextmanager
def runnable(
    name: str, plan: TargetPlan, engine: Made | None, graph: Made, shared: Made
) -> Iterator[Engine]:
    """An engine by graph or "dit.<route>", opened; closed at the end.

    A plan for another GPU than the one at hand cannot run: then ONNX Runtime computes the graph
    that it was made of, each value rounded to the type that it has there. Its routed weights are
    inputs, to be bound, in "dit.<route>" too. So it is where there is no engine of the name.
    """
    from a2edit.runtime.engines import onnxruntime

    kind, policy = name.partition(".")[0], plan.policy(name)
    spec = read_graph(graph.folder, "").spec(kind)
    with tempfile.TemporaryDirectory() as folder:
        if engine is None or not is_here(plan.target):
            path = twin(kind, plan, graph, shared, Path(folder))
            opened: CheckedEngine = onnxruntime.engine_from_onnx(spec, path, "fp32")
        else:
            if name != kind:
                spec = replace(spec, name=name, weights=())
            path = engine.folder / engine_file(name, plan.backend)
            opened = _loaded(spec, path, plan, policy.precision)
        with opened:
            names = {part.name for part in opened.spec.parameters}
            opened.feed(pick_tensors(shared.folder.glob("*.safetensors"), names))
            yield opened


def _loaded(spec: GraphSpec, path: Path, plan: TargetPlan, precision: Precision) -> CheckedEngine:
    from a2edit.runtime.engines.pool import MODULES

    module, which = MODULES[plan.backend]
    backend = import_module(f"a2edit.runtime.engines.{module}")
    engine: CheckedEngine = backend.engine_from_blob(spec, path, precision, *which)
    return engine


def is_here(target: Target) -> bool:
    """Whether this machine has a target's processor."""
    if target.device == "cpu":
        return True
    from a2edit.runtime.engines.cuda import capability
    from a2edit.runtime.errors import TargetError

    try:
        return capability() == target.capability
    except TargetError:
        return False


def twin(kind: str, plan: TargetPlan, graph: Made, shared: Made, folder: Path) -> Path:
    """A graph that ONNX Runtime computes to a target's figures, in `folder` with its parameters."""
    import onnx_ir as ir

    from a2edit.export.precision import emulated

    onnx = graph.folder / graph_file(kind, plan.policy(kind).variant)
    for file in shared.folder.glob("*.safetensors"):
        link_or_copy(file, folder / file.name)
    model = emulated(ir.load(onnx))
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value.base_dir = folder
    ir.save(model, folder / onnx.name)
    return folder / onnx.name

"""A route's weights as constants of its own graph: `--materialise baked`."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from a2edit.export.files import link_or_copy
from a2edit.export.passes import run
from a2edit.export.weights import Place, places


class BakeWeights(ir.passes.InPlacePass):
    """Weight inputs become initializers with external data in `file`.

    After it, every input of the graph differs from request to request; none belongs to a route.
    """

    def __init__(self, found: dict[str, Place], file: str, folder: Path) -> None:
        super().__init__()
        self._places, self._file, self._folder = found, file, folder

    def requires(self, model: ir.Model) -> None:
        missing = sorted(self._places.keys() - {value.name for value in model.graph.inputs})
        if missing:
            raise ir.passes.PreconditionError(f"the graph has no inputs {missing}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        for value in list(graph.inputs):
            place = self._places.get(value.name or "")
            if place is None:
                continue
            assert value.dtype is not None
            assert value.shape is not None
            graph.inputs.remove(value)
            value.const_value = ir.ExternalTensor(
                self._file,
                place.offset,
                place.bytes,
                value.dtype,
                shape=value.shape,
                name=value.name or "",
                base_dir=self._folder,
            )
            graph.register_initializer(value)
        return ir.passes.PassResult(model, modified=True)


def bake(onnx: Path, shared: Path, weights: Path, folder: Path) -> Path:
    """Write `<folder>/<graph>.onnx` with a route's weights inside; links the files it points to.

    `shared` is the folder of the parameters that no route changes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in shared.glob("*.safetensors"):
        link_or_copy(source, folder / source.name)
    link_or_copy(weights, folder / "route.safetensors")
    model = ir.load(onnx)
    path = folder / onnx.name
    model = run(model, [BakeWeights(places(weights), "route.safetensors", folder)], onnx.stem)
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value.base_dir = folder
    ir.save(model, path)
    return path

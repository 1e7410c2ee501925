"""Parameters leave the graph: each points by offset into one shared safetensors file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import onnx_ir as ir

from a2edit.export.weights import Place

_TYPES = {"float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16", "int8": "INT8"}

LARGE = 2**20  # bytes


def large_matrices(model: ir.Model, places: Mapping[str, Place]) -> list[str]:
    """Parameters that are nearly all of a graph's bytes, and may be inputs: sorted names.

    Convolutions, which want their kernels to be constants, have none.
    """
    return sorted(
        name
        for name, value in model.graph.initializers.items()
        if name in places
        and places[name].bytes >= LARGE
        and value.shape is not None
        and value.shape.rank() == 2
    )


class ExternalParameters(ir.passes.InPlacePass):
    """Initializers become external data of the file that has them, in the types it stores.

    1. Behind one that the graph takes in another type stands a Cast: what a checkpoint has in bf16
       takes half the bytes of fp32, and is the same numbers.
    2. What the graph casts to the stored type (a bf16 graph to bf16) is taken as it is stored: a
       compiler would fold two Casts by writing the fp32 numbers down.
    3. Those in `inputs` have no bytes at all: they become inputs of the graph, in the stored type,
       behind all others. TensorRT keeps a copy of each constant while it builds, and one in the
       plan; an input costs it neither.

    ONNX Runtime and OpenVINO both refuse external data outside of the graph's own folder, by ".."
    and by symlink alike; so the files lie beside the graph (docs/decisions/0002).

    Args:
        files: file → name of an initializer → where it lies there.
        folder: of the graph and the files.
        inputs: names of initializers, see 3.
    """

    def __init__(
        self,
        files: Mapping[str, Mapping[str, Place]],
        folder: Path,
        inputs: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._files, self._folder = files, folder
        self._inputs = frozenset(inputs)

    def requires(self, model: ir.Model) -> None:
        if strange := sorted(self._inputs - model.graph.initializers.keys()):
            raise ir.passes.PreconditionError(f"the graph has no parameters {strange}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        values, modified = list(model.graph.initializers.values()), False
        for file, places in self._files.items():
            for value in values:
                if (place := places.get(str(value.name))) is not None:
                    self._point(model.graph, value, file, place)
                    modified = True
        return ir.passes.PassResult(model, modified)

    def _point(self, graph: ir.Graph, value: ir.Value, file: str, place: Place) -> None:
        name, taken, shape = str(value.name), value.dtype, value.shape
        assert taken is not None
        assert shape is not None
        kind = ir.DataType[_TYPES[place.dtype]]
        stored = ir.Value(name=name, shape=shape, type=ir.TensorType(kind))
        del graph.initializers[name]
        if name in self._inputs:  # case 3
            graph.inputs.append(stored)
        else:
            stored.const_value = ir.ExternalTensor(
                file,
                place.offset,
                place.bytes,
                kind,
                shape=shape,
                name=name,
                base_dir=self._folder,
            )
            graph.register_initializer(stored)
        if kind == taken:
            value.replace_all_uses_with(stored)
            return
        for user, _ in list(value.uses()):  # case 2
            if user.op_type == "Cast" and user.attributes["to"].as_int() == int(kind):
                user.outputs[0].replace_all_uses_with(stored)
                graph.remove(user, safe=True)
        if not value.uses():
            return
        cast = ir.node("Cast", [stored], {"to": taken}, name=f"{name}.cast")  # case 1
        wide = cast.outputs[0]
        wide.name, wide.shape, wide.type = f"{name}.cast", shape, ir.TensorType(taken)
        value.replace_all_uses_with(wide)
        graph.insert_before(graph[0], cast)

    def ensures(self, model: ir.Model) -> None:
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            if tensor is None:
                raise ir.passes.PostconditionError(f"{name} is not in {' or '.join(self._files)}")
            if isinstance(tensor, ir.ExternalTensor) and tensor.nbytes != tensor.length:
                raise ir.passes.PostconditionError(
                    f"{name} has {tensor.nbytes} bytes in the graph and {tensor.length} in the file"
                )

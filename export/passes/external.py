"""Parameters leave the graph: each points by offset into one shared safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from a2edit.export.weights import Place


class ExternalParameters(ir.passes.InPlacePass):
    """Initializers named in `places` become external data of `file`.

    ONNX Runtime and OpenVINO both refuse external data outside of the graph's own folder, by ".."
    and by symlink alike; so `file` lies beside the graph (docs/decisions/0002).
    """

    def __init__(self, places: Mapping[str, Place], file: str, folder: Path) -> None:
        super().__init__()
        self._places, self._file, self._folder = places, file, folder

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for name, value in model.graph.initializers.items():
            if (place := self._places.get(name)) is None:
                continue
            assert value.dtype is not None
            assert value.shape is not None
            value.const_value = ir.ExternalTensor(
                self._file,
                place.offset,
                place.bytes,
                value.dtype,
                shape=value.shape,
                name=name,
                base_dir=self._folder,
            )
            modified = True
        return ir.passes.PassResult(model, modified)

    def ensures(self, model: ir.Model) -> None:
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            if tensor is None:
                raise ir.passes.PostconditionError(f"{name} is not in {self._file}")
            if isinstance(tensor, ir.ExternalTensor) and tensor.nbytes != tensor.length:
                raise ir.passes.PostconditionError(
                    f"{name} has {tensor.nbytes} bytes in the graph and {tensor.length} in the file"
                )

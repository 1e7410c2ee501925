"""8-bit products for routed linears: weights and scales as inputs, static ranges (SPEC §11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from a2edit.export.passes.values import FLOAT, constant, describe, products_of
from a2edit.kernels.reference import LEVELS

_TYPES = {
    "int8": (ir.DataType.INT8, np.int8),
    "float8_e4m3fn": (ir.DataType.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
}


class QuantiseRoutedLinears(ir.passes.InPlacePass):
    """Quantise the two inputs of every routed linear's product.

    1. The weight input "<linear>.weight" [out, in] gets 8 bits, dequantised with the scale 1, and
       the product is multiplied by a new input "<linear>.scale" [out], behind the weights. The
       scale of a row is the same before and after the product; but with a scale for every row
       before it, OpenVINO and TensorRT multiply wide matrices unless the weights are constants.
    2. The activation passes QuantizeLinear and DequantizeLinear with one static scale.
    3. Where factors s are given, the activation is multiplied by 1 / s before: the weight set
       holds W·diag(s) (SmoothQuant). They also bring the parts of a joined activation (a single
       block's proj_out) to one range: with a scale each (SPEC §11.3), compilers multiply wide.
    4. Zero points are zero. Scales are fp32, the network's type; where it becomes bf16, they do
       with it (`BFloat16`). Nothing else is quantised (SPEC §11.2).

    Args:
        ranges: "<linear>" → max|x / s|.
        smooth: "<linear>.smooth" → s fp32 [in]; where there is none, or all are 1, nothing is
            multiplied.
        dtype: "int8" or "float8_e4m3fn".
    """

    def __init__(
        self,
        ranges: Mapping[str, float],
        smooth: Mapping[str, NDArray[np.float32]] | None = None,
        dtype: str = "int8",
    ) -> None:
        super().__init__()
        self._ranges = ranges
        self._smooth = smooth or {}
        self._kind, self._zero = _TYPES[dtype][0], np.array(0, _TYPES[dtype][1])
        self._levels = LEVELS[dtype]

    def requires(self, model: ir.Model) -> None:
        names = {value.name for value in model.graph.inputs}
        missing = sorted(name for name in self._ranges if f"{name}.weight" not in names)
        if missing:
            raise ir.passes.PreconditionError(f"the graph has no weight input for {missing}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        inputs = {value.name: value for value in graph.inputs}
        for name, peak in self._ranges.items():
            weight = inputs[f"{name}.weight"]
            products, others = products_of(weight, {"Transpose"})
            if others:
                raise ValueError(f"{weight.name} reaches {others[0].op_type}, which is no MatMul")
            self._weight(graph, name, weight, products)
            for product in products:
                self._activation(graph, name, product, peak)
        return ir.passes.PassResult(model, bool(self._ranges))

    def _weight(
        self, graph: ir.Graph, name: str, weight: ir.Value, products: Sequence[ir.Node]
    ) -> None:
        shape = weight.shape
        assert shape is not None
        users = list(weight.uses())
        weight.type = ir.TensorType(self._kind)
        scale = ir.Value(
            name=f"{name}.scale",
            shape=ir.Shape((shape[0],)),
            type=ir.TensorType(FLOAT),
        )
        graph.inputs.append(scale)
        one = constant(graph, f"{name}.weight.one", np.array(1, dtype=np.float32))
        node = ir.node("DequantizeLinear", [weight, one])
        for place, product in enumerate(products):
            _scale_rows(graph, product, scale, f"{name}.scaled.{place}")
        describe(node.outputs[0], f"{name}.weight.dequantised", shape, FLOAT)
        graph.insert_before(users[0][0], node)
        for user, place in users:
            user.replace_input_with(place, node.outputs[0])

    def _activation(self, graph: ir.Graph, name: str, product: ir.Node, peak: float) -> None:
        source = product.inputs[0]
        assert source is not None
        scaled = _divided(graph, product, source, name, self._smooth.get(f"{name}.smooth"))
        product.replace_input_with(0, self._qdq(graph, product, scaled, name, peak))

    def _qdq(
        self, graph: ir.Graph, before: ir.Node, value: ir.Value, name: str, peak: float
    ) -> ir.Value:
        step = peak / self._levels if peak > 0 else 1.0
        scale = constant(graph, f"{name}.input_scale", np.array(step, dtype=np.float32))
        zero = constant(graph, f"{name}.input_zero", self._zero)
        quantise = ir.node("QuantizeLinear", [value, scale, zero])
        dequantise = ir.node("DequantizeLinear", [quantise.outputs[0], scale, zero])
        for node, suffix, dtype in (
            (quantise, "quantised", self._kind),
            (dequantise, "dequantised", FLOAT),
        ):
            describe(node.outputs[0], f"{name}.input.{suffix}", value.shape, dtype)
        graph.insert_before(before, [quantise, dequantise])
        return dequantise.outputs[0]

    def ensures(self, model: ir.Model) -> None:
        types = {value.name: value.dtype for value in model.graph.inputs}
        left = [name for name in self._ranges if types[f"{name}.weight"] != self._kind]
        if left:
            raise ir.passes.PostconditionError(f"weights left in high precision: {left}")


def _scale_rows(graph: ir.Graph, product: ir.Node, scale: ir.Value, name: str) -> None:
    result = product.outputs[0]
    users = list(result.uses())
    scaled = ir.node("Mul", [result, scale])
    output = scaled.outputs[0]
    describe(output, name, result.shape, FLOAT)
    for user, place in users:
        user.replace_input_with(place, output)
    graph.insert_after(product, scaled)


def _divided(
    graph: ir.Graph,
    before: ir.Node,
    value: ir.Value,
    name: str,
    smooth: NDArray[np.float32] | None,
) -> ir.Value:
    if smooth is None or (smooth == 1).all():
        return value
    inverse = constant(graph, f"{name}.input_factors", np.float32(1) / smooth)
    node = ir.node("Mul", [value, inverse])
    describe(node.outputs[0], f"{name}.input.smooth", value.shape, FLOAT)
    graph.insert_before(before, node)
    return node.outputs[0]

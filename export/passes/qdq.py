"""INT8 for routed linears: int8 weights and scales as inputs, static ranges (SPEC §11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from a2edit.kernels.reference import INT8_LEVELS


class QuantiseRoutedLinears(ir.passes.InPlacePass):
    """Quantise the two inputs of every routed linear's product.

    1. The weight input "<linear>.weight" [out, in] becomes int8, dequantised with the scale 1,
       and the product is multiplied by a new input "<linear>.scale" fp32 [out], behind the
       weights. The scale of a row is the same before and after the product; but with a scale for
       every row before it, OpenVINO multiplies fp32 matrices unless the weights are constants.
    2. The activation passes QuantizeLinear and DequantizeLinear with one static scale.
    3. Where the activation is joined from parts with a range each (a single block's proj_out),
       every part gets its own scale before the join (SPEC §11.3).
    4. Where factors s are given, the activation is multiplied by 1 / s before (1 / s of each part,
       before the join): the weight set holds W·diag(s) (SmoothQuant).
    5. Zero points are zero and scales are fp32, the network's type. Nothing else is quantised
       (SPEC §11.2).

    Args:
        ranges: "<linear>" → max|x / s|, one number a part.
        smooth: "<linear>.smooth" → s fp32 [in]; where there is none, or all are 1, nothing is
            multiplied.
    """

    def __init__(
        self,
        ranges: Mapping[str, tuple[float, ...]],
        smooth: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        super().__init__()
        self._ranges = ranges
        self._smooth = smooth or {}

    def requires(self, model: ir.Model) -> None:
        names = {value.name for value in model.graph.inputs}
        missing = sorted(name for name in self._ranges if f"{name}.weight" not in names)
        if missing:
            raise ir.passes.PreconditionError(f"the graph has no weight input for {missing}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        inputs = {value.name: value for value in graph.inputs}
        for name, peaks in self._ranges.items():
            weight = inputs[f"{name}.weight"]
            products = _products(weight)
            self._weight(graph, name, weight, products)
            for product in products:
                self._activation(graph, name, product, peaks)
        return ir.passes.PassResult(model, bool(self._ranges))

    def _weight(
        self, graph: ir.Graph, name: str, weight: ir.Value, products: Sequence[ir.Node]
    ) -> None:
        shape = weight.shape
        assert shape is not None
        users = list(weight.uses())
        weight.dtype = ir.DataType.INT8
        scale = ir.Value(
            name=f"{name}.scale",
            shape=ir.Shape((shape[0],)),
            type=ir.TensorType(ir.DataType.FLOAT),
        )
        graph.inputs.append(scale)
        one = _constant(graph, f"{name}.weight.one", np.array(1, dtype=np.float32))
        node = ir.node("DequantizeLinear", [weight, one])
        node.outputs[0].name = f"{name}.weight.dequantised"
        node.outputs[0].shape, node.outputs[0].dtype = shape, ir.DataType.FLOAT
        graph.insert_before(users[0][0], node)
        for user, place in users:
            user.replace_input_with(place, node.outputs[0])
        for place, product in enumerate(products):
            result = product.outputs[0]
            scaled = ir.node("Mul", [result, scale])
            output = scaled.outputs[0]
            output.name, output.type = f"{name}.scaled.{place}", result.type
            output.shape = result.shape
            for user, use in list(result.uses()):
                if user is not scaled:
                    user.replace_input_with(use, output)
            graph.insert_after(product, scaled)

    def _activation(
        self, graph: ir.Graph, name: str, product: ir.Node, peaks: tuple[float, ...]
    ) -> None:
        source = product.inputs[0]
        assert source is not None
        smooth = self._smooth.get(f"{name}.smooth")
        if len(peaks) == 1:
            scaled = _divided(graph, product, source, name, smooth)
            product.replace_input_with(0, _qdq(graph, product, scaled, name, peaks[0]))
            return
        join = source.producer()
        if join is None or join.op_type != "Concat" or len(join.inputs) != len(peaks):
            raise ValueError(f"{name}: its input is not joined from {len(peaks)} parts")
        first = 0
        for place, (part, peak) in enumerate(zip(join.inputs, peaks, strict=True)):
            assert part is not None
            assert part.shape is not None
            label, width = f"{name}.part{place}", part.shape.numpy()[-1]
            factors = None if smooth is None else smooth[first : first + width]
            scaled = _divided(graph, join, part, label, factors)
            join.replace_input_with(place, _qdq(graph, join, scaled, label, peak))
            first += width

    def ensures(self, model: ir.Model) -> None:
        types = {value.name: value.dtype for value in model.graph.inputs}
        left = [name for name in self._ranges if types[f"{name}.weight"] != ir.DataType.INT8]
        if left:
            raise ir.passes.PostconditionError(f"weights left in high precision: {left}")


def _products(weight: ir.Value) -> list[ir.Node]:
    """The MatMul nodes that a weight reaches through its transpose."""
    found, values = [], [weight]
    while values:
        for node, _ in values.pop().uses():
            if node.op_type == "MatMul":
                found.append(node)
            elif node.op_type == "Transpose":
                values.extend(node.outputs)
            else:
                raise ValueError(f"{weight.name} reaches {node.op_type}, which is no MatMul")
    return found


def _constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.tensor(array, name=name),
    )
    graph.register_initializer(value)
    return value


def _divided(
    graph: ir.Graph,
    before: ir.Node,
    value: ir.Value,
    name: str,
    smooth: NDArray[np.float32] | None,
) -> ir.Value:
    if smooth is None or (smooth == 1).all():
        return value
    inverse = _constant(graph, f"{name}.input_factors", np.float32(1) / smooth)
    node = ir.node("Mul", [value, inverse])
    output = node.outputs[0]
    output.name, output.shape, output.type = f"{name}.input.smooth", value.shape, value.type
    graph.insert_before(before, node)
    return output


def _qdq(graph: ir.Graph, before: ir.Node, value: ir.Value, name: str, peak: float) -> ir.Value:
    step = peak / INT8_LEVELS if peak > 0 else 1.0
    scale = _constant(graph, f"{name}.input_scale", np.array(step, dtype=np.float32))
    zero = _constant(graph, f"{name}.input_zero", np.array(0, dtype=np.int8))
    quantise = ir.node("QuantizeLinear", [value, scale, zero])
    dequantise = ir.node("DequantizeLinear", [quantise.outputs[0], scale, zero])
    for node, suffix, dtype in (
        (quantise, "quantised", ir.DataType.INT8),
        (dequantise, "dequantised", ir.DataType.FLOAT),
    ):
        output = node.outputs[0]
        output.name, output.shape, output.dtype = f"{name}.input.{suffix}", value.shape, dtype
    graph.insert_before(before, [quantise, dequantise])
    return dequantise.outputs[0]

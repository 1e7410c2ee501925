"""What lives between the nodes of a graph, counted by hand."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from a2edit.export.activations import activation_bytes

FLOAT = ir.TensorType(ir.DataType.FLOAT)


class Writer:
    """Nodes one after the other; every value is fp32."""

    def __init__(self, *shape: int) -> None:
        self.x = ir.Value(name="x", shape=ir.Shape(shape), type=FLOAT)
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []

    def constant(self, *shape: int) -> ir.Value:
        value = ir.Value(name=f"c{len(self.initializers)}", shape=ir.Shape(shape), type=FLOAT)
        self.initializers.append(value)
        return value

    def add(self, kind: str, *inputs: ir.Value, shape: tuple[int | str, ...]) -> ir.Value:
        node = ir.Node("", kind, list(inputs), num_outputs=1)
        (out,) = node.outputs
        out.name, out.shape, out.type = f"v{len(self.nodes)}", ir.Shape(shape), FLOAT
        self.nodes.append(node)
        return out

    def count(self, *outputs: ir.Value) -> int:
        graph = ir.Graph(
            [self.x],
            list(outputs),
            nodes=self.nodes,
            initializers=self.initializers,
            opset_imports={"": 20},
        )
        return activation_bytes(ir.Model(graph, ir_version=10))


def test_a_chain_holds_two_values_at_a_time() -> None:
    g = Writer(10, 4)
    first = g.add("MatMul", g.x, g.constant(4, 8), shape=(10, 8))
    second = g.add("MatMul", first, g.constant(8, 16), shape=(10, 16))
    third = g.add("MatMul", second, g.constant(16, 2), shape=(10, 2))
    out = g.add("MatMul", third, g.constant(2, 4), shape=(10, 4))
    assert g.count(out) == 4 * 10 * (8 + 16)


def test_a_value_that_is_read_again_stays() -> None:
    g = Writer(10, 4)
    kept = g.add("MatMul", g.x, g.constant(4, 8), shape=(10, 8))
    wide = g.add("MatMul", kept, g.constant(8, 32), shape=(10, 32))
    back = g.add("MatMul", wide, g.constant(32, 8), shape=(10, 8))
    total = g.add("Add", back, kept, shape=(10, 8))
    assert g.count(g.add("MatMul", total, g.constant(8, 4), shape=(10, 4))) == 4 * 10 * (8 + 32 + 8)


def test_views_take_nothing_and_what_can_be_written_over_is() -> None:
    g = Writer(10, 4)
    wide = g.add("MatMul", g.x, g.constant(4, 8), shape=(10, 8))
    split = g.add("Reshape", wide, g.constant(3), shape=(10, 2, 4))
    scaled = g.add("Mul", split, g.constant(1), shape=(10, 2, 4))
    assert g.count(g.add("MatMul", scaled, g.constant(4, 1), shape=(10, 2, 1))) == 4 * 10 * 8
    # an input that is read afterwards cannot be written over
    g = Writer(10, 4)
    wide = g.add("MatMul", g.x, g.constant(4, 8), shape=(10, 8))
    scaled = g.add("Mul", wide, g.constant(1), shape=(10, 8))
    assert g.count(g.add("Add", scaled, wide, shape=(10, 8))) == 2 * 4 * 10 * 8


def test_constants_of_constants_are_not_activations() -> None:
    g = Writer(10, 4)
    turned = g.add("Transpose", g.constant(8, 4), shape=(4, 8))
    wide = g.add("MatMul", g.x, turned, shape=(10, 8))
    assert g.count(g.add("MatMul", wide, g.constant(8, 4), shape=(10, 4))) == 4 * 10 * 8


@pytest.mark.parametrize("size", ["batch", None])
def test_open_sizes_are_not_guessed(size: str | None) -> None:
    g = Writer(10, 4)
    wide = g.add("MatMul", g.x, g.constant(4, 8), shape=(size, 8))  # type: ignore[arg-type]
    assert g.count(g.add("MatMul", wide, g.constant(8, 4), shape=(10, 4))) == 0

"""What flows through a graph: the most bytes that live between its nodes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

# Their output is their input's memory, read with another shape.
_VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
# A value of their output is made of one value of an input, which can be written over: engines fuse
# them with what comes before.
_IN_PLACE = {"Add", "Sub", "Mul", "Div", "Clip", "Gelu", "Sigmoid", "Tanh", "LayerNormalization"}


def activation_bytes(model: ir.Model) -> int:
    """The peak of what lives between the nodes of a model, run in their order.

    Inputs, outputs and what is computed of constants alone are not counted: an engine holds the
    first two besides, and the last among its constants. Views take nothing, and a node that can
    writes over an input that nobody reads afterwards. Of a model that leaves sizes open: 0, since
    nothing says how large they are.
    """
    nodes = list(model.graph)
    sizes = dict(_sizes(model))
    if None in sizes.values():
        return 0
    memory: dict[ir.Value, ir.Value] = {}  # of a value, the one whose memory it is
    fixed = set(model.graph.initializers.values())
    left: dict[ir.Value, int] = {}  # nodes that still read a memory
    outputs = set(model.graph.outputs)

    for node in nodes:
        given = [value for value in node.inputs if value is not None]
        if node.op_type == "Constant" or (given and all(value in fixed for value in given)):
            fixed.update(node.outputs)
            continue
        shared = node.op_type in _VIEWS and given[0] not in fixed
        for value in node.outputs:
            memory[value] = memory.get(given[0], given[0]) if shared else value
        for value in {memory.get(value, value) for value in given}:
            left[value] = left.get(value, 0) + 1
    live = peak = 0
    held: set[ir.Value] = set()
    for node in nodes:
        made = [value for value in node.outputs if memory.get(value) is value]
        if not made and not any(value in memory for value in node.outputs):
            continue
        read = {memory.get(value, value) for value in node.inputs if value is not None}
        for value in read:
            left[value] -= 1
        gone = [value for value in read & held if not left[value]]
        fresh = sum(sizes[value] or 0 for value in made if value not in outputs)
        freed = sum(sizes[value] or 0 for value in gone)
        if node.op_type not in _IN_PLACE:
            peak = max(peak, live + fresh)
        live += fresh - freed
        peak = max(peak, live)
        held.difference_update(gone)
        held.update(value for value in made if value not in outputs and left.get(value))
        live -= sum(
            sizes[value] or 0 for value in made if value not in held and value not in outputs
        )
    return peak


def _sizes(model: ir.Model) -> Iterator[tuple[ir.Value, int | None]]:
    """Bytes of every node's outputs; None where one is open."""
    for node in model.graph:
        for value in node.outputs:
            shape, dtype = value.shape, value.dtype
            known = () if shape is None else [size for size in shape if isinstance(size, int)]
            if shape is None or dtype is None or len(known) < len(shape):
                yield value, None
            else:
                yield value, round(prod(known) * dtype.itemsize)

"""A graph as a policy computes it, and its twin that a CPU can run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from a2edit.export.passes import run
from a2edit.export.passes.bfloat16 import BFloat16
from a2edit.export.passes.emulate import EmulateBFloat16
from a2edit.export.passes.qdq import QuantiseRoutedLinears
from a2edit.export.passes.weight_layout import WeightsInPlace
from a2edit.export.passes.weight_only import StoreWeightsIn8Bits

if TYPE_CHECKING:
    from a2edit.calibration.policy import GraphPolicy

# The type of a quantised weight in the graph, by the precision of its product.
QUANTISED = {"int8": "int8", "fp8": "float8_e4m3fn"}


def in_precision(
    model: ir.Model,
    policy: GraphPolicy,
    ranges: Mapping[str, float] | None = None,
    smooth: Mapping[str, NDArray[np.float32]] | None = None,
) -> ir.Model:
    """The fp32 model of a graph, rewritten in place to what `policy` says.

    Args:
        model: of `onnx_from_module`.
        policy: of this graph on a target.
        ranges: of a quantised graph: "<linear>" → max|x / s|, of its 8-bit type.
        smooth: of a quantised graph: "<linear>.smooth" → s fp32 [in].

    Raises:
        EngineError: a pass refuses the graph.
    """
    passes: list[ir.passes.PassBase] = []
    if policy.weight_only:
        passes.append(StoreWeightsIn8Bits())
    if policy.quantised:
        assert ranges is not None, f"{policy} without ranges"
        dtype = QUANTISED[policy.precision]
        passes.append(QuantiseRoutedLinears(ranges, smooth, dtype))
    if policy.rest == "bf16":
        passes += [BFloat16(), WeightsInPlace()]
    return run(model, passes, str(model.graph.name))


def emulated(model: ir.Model) -> ir.Model:
    """The model, rewritten in place so that ONNX Runtime on a CPU computes a bf16 model's figures.

    Inputs, outputs and weights keep their types, so that feeds and weight sets are the engine's
    own. An fp32 model is its own twin.
    """
    return run(model, [EmulateBFloat16()], str(model.graph.name))

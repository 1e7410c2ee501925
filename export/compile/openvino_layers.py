"""The types that OpenVINO computes in, as the compiled model tells them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from a2edit.export.compile.layers import LayerTypes, pair

_LINEAR = {"FullyConnected", "MatMul"}
_CONVOLUTION = {"Convolution", "Deconvolution"}
_ATTENTION = {"ScaledDotProductAttention", "ScaledDotProductAttentionWithKVCache", "SDPA"}
_NAMES = {"f32": "fp32", "f16": "fp16", "i8": "int8", "u8": "uint8"}


def runtime_layer_types(compiled: Any) -> LayerTypes:
    """Products of a compiled model by the types of their operands.

    Its runtime model has one node for every kernel that will run, fusions done.
    """
    kinds = (_LINEAR, _CONVOLUTION, _ATTENTION)
    linear, convolution, attention = counts = [Counter[str]() for _ in kinds]
    for node in compiled.get_runtime_model().get_ordered_ops():
        layer = node.get_rt_info()["layerType"].astype(str)
        for found, kind in zip(counts, kinds, strict=True):
            if layer in kind:
                names = (node.get_input_element_type(place).get_type_name() for place in (0, 1))
                found[pair(*(_NAMES.get(name, name) for name in names))] += 1
    return LayerTypes(
        source="runtime model",
        linear=dict(linear),
        convolution=dict(convolution),
        attention=dict(attention),
    )

"""The types that a TensorRT plan computes in, read out of its bytes: no GPU is needed.

TensorRT's compiler (Myelin) puts the program that the GPU will run into the plan as text, one for
every subgraph and one for every fusion in it:

    descriptors {
      tensor={ … name="x.1" … type=int8 }
    }
    main {
      fully_connected={ name="proj/MatMul" output={"y.1" } input={"x.1" "w.1" … } … }
      function={ name=_gemm_mha_v2 … input_args={ "q" "k" "v" } … }
    }

The operands are what the product really reads: where scales could not be moved behind it, 8-bit
weights are dequantised in front of it, and it reads bf16. Products of one row are compiled to
reductions and stand here as functions without a name: they are not counted. The text is no
interface of TensorRT's: where another version writes none, nothing is found.
"""

from __future__ import annotations

import mmap
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from a2edit.export.compile.layers import LayerTypes, pair

_NAMES = {"float": "fp32", "half": "fp16", "fp8_e4m3": "fp8"}
_TENSOR = re.compile(rb'tensor=\{[^\n]*? name="([^"]*)"[^\n]*? type=(\w+) \}')
_PRODUCT = re.compile(
    rb'\n +(fully_connected|corrltn|deconv\w*)=\{ name="[^"]*" output=\{[^}]*\} input=\{([^}]*)\}'
)
_ATTENTION = re.compile(rb"\n +function=\{ name=\w*_mha\w* [^\n]*?input_args=\{([^}]*)\}")
_OPERAND = re.compile(rb'"([^"]*)"')


def plan_layer_types(plan: Path) -> LayerTypes | None:
    """Products by the types of their operands; None where the plan holds no program."""
    linear: Counter[str] = Counter()
    convolution: Counter[str] = Counter()
    attention: Counter[str] = Counter()
    programs = 0
    for descriptors, main in _programs(plan):
        programs += 1
        types = {name: kind.decode() for name, kind in _TENSOR.findall(descriptors)}
        for operation, operands in _PRODUCT.findall(main):
            counts = linear if operation == b"fully_connected" else convolution
            counts[_pair(operands, types)] += 1
        for operands in _ATTENTION.findall(main):
            attention[_pair(operands, types)] += 1
    if not programs:
        return None
    return LayerTypes(
        source="plan",
        linear=dict(linear),
        convolution=dict(convolution),
        attention=dict(attention),
    )


def _programs(plan: Path) -> Iterator[tuple[bytes, bytes]]:
    """Descriptors and main part of every program."""
    with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(b"descriptors {\n")
        while start >= 0:
            main = data.find(b"\nmain {\n", start)
            end = data.find(b"\n}\n", main)
            if main < 0 or end < 0:
                return
            yield data[start:main], data[main : end + 1]
            start = data.find(b"descriptors {\n", end)


def _pair(operands: bytes, types: dict[bytes, str]) -> str:
    first, second = (types.get(name, "?") for name in _OPERAND.findall(operands)[:2])
    return pair(_NAMES.get(first, first), _NAMES.get(second, second))

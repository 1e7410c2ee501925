"""What the products of a compiled engine multiply: the proof that an 8-bit build is one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

SUFFIX = ".layers.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTypes:
    """How many products an engine has, by the types of their two operands.

    Attributes:
        source: where they were counted: in the program of a compiled "plan" (TensorRT), in the
            "runtime model" that was compiled (OpenVINO), or, where a compiler tells nothing, in the
            "network" that it was given: that is what was asked for, and no proof.
        linear: "<activation> x <weight>", such as "int8 x int8" → layers; matrix products of two
            activations are among them, unless they were fused into `attention`.
        convolution: in the same way.
        attention: fused attention, by the types of queries and keys.
        profiles: sizes that a plan has kernels for; counts are over all of them.
    """

    source: Literal["plan", "runtime model", "network"]
    linear: Mapping[str, int] = field(default_factory=dict)
    convolution: Mapping[str, int] = field(default_factory=dict)
    attention: Mapping[str, int] = field(default_factory=dict)
    profiles: int = 1

    def write(self, path: Path) -> None:
        """The same counts give the same bytes."""
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_layer_types(path: Path) -> LayerTypes:
    """What `LayerTypes.write` wrote."""
    return LayerTypes(**json.loads(path.read_text(encoding="utf-8")))


def pair(activation: str, weight: str) -> str:
    return f"{activation} x {weight}"

"""A tiny model whose graphs are closed forms, in ONNX.

Sizes: S = 32, diptych 32x64, so 2x4 = 8 tokens of 64 latent channels; L = 2 blocks, N = 3 experts.
- vae_encoder: each 16x16 patch averaged to 4x4 cells of RGB (48 numbers, 16 zeros), then the
  patch's 256 mask pixels; vae_decoder paints the cells back on the right half.
- modulation: m = the mean of pooled + g/1000 + s/1000, and s.
- dit: next = x + delta (x - (c W' + the means of text and reference + m)), c the first 64 of the
  conditioning, W the routed weight; so a run is a product of factors.
- gate: softmax over the reference's colour, the same in both blocks.
- dit_head, dit_tail (of `cached_bundle` alone): the same step. What the first block adds is s
  everywhere, and what the tail adds is c W' + … + s/1000 as it was in the last whole step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from a2edit.runtime.engines.base import TensorSpec
from a2edit.runtime.manifest import GraphEntry

SIZE, GRID, BLOCKS, EXPERTS = 32, (2, 4), 2, 3
TEXT, POOLED, REFERENCE, WIDTH = 6, 5, 16, 4
WORDS = {"[PAD]": 0, "[UNK]": 1, "a": 2, "red": 3, "green": 4, "blue": 5, "chair": 6}
TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int64": TensorProto.INT64}


class GraphWriter:
    """Collects nodes; every call of `add` is one operator with one output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def reshape(self, value: str, *shape: int, out: str | None = None) -> str:
        return self.add("Reshape", value, self.const(shape, np.int64), out=out)

    def mean(self, value: str) -> str:
        return self.add("ReduceMean", value, keepdims=0)

    def save(self, path: Path, entry: GraphEntry) -> None:
        def edge(spec: TensorSpec) -> Any:
            return helper.make_tensor_value_info(spec.name, TYPES[spec.dtype], list(spec.shape))

        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [edge(spec) for spec in (*entry.inputs, *entry.weights)],
            [edge(spec) for spec in entry.outputs],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())


def _vae_encoder(g: GraphWriter) -> None:
    levels = g.add("Cast", "pixels", to=TensorProto.FLOAT)
    scaled = g.add("Sub", g.add("Div", levels, g.const(127.5)), g.const(1.0))
    split = g.reshape(scaled, 2, 4, 4, 4, 4, 4, 3)  # rows: patch, cell, pixel; columns alike
    cells = g.add("ReduceMean", split, g.const([2, 5], np.int64), keepdims=0)
    packed = g.reshape(g.add("Transpose", cells, perm=[0, 2, 1, 3, 4]), 1, *GRID, 48)
    padded = g.add("Concat", packed, g.const(np.zeros((1, *GRID, 16))), axis=3)
    mask = g.add("Div", g.add("Cast", "mask", to=TensorProto.FLOAT), g.const(255.0))
    patches = g.add("Transpose", g.reshape(mask, 2, 16, 4, 16), perm=[0, 2, 1, 3])
    g.add("Concat", padded, g.reshape(patches, 1, *GRID, 256), out="conditioning", axis=3)


def _vae_decoder(g: GraphWriter) -> None:
    grid = g.reshape("latents", 2, 4, 64)
    cut = (g.const(v, np.int64) for v in ([2, 0], [4, 48], [1, 2]))
    cells = g.reshape(g.add("Slice", grid, *cut), 2, 2, 4, 1, 4, 1, 3)
    grown = g.add("Expand", cells, g.const([2, 2, 4, 4, 4, 4, 3], np.int64))
    rows = g.add("Transpose", grown, perm=[0, 2, 3, 1, 4, 5, 6])
    picture = g.reshape(rows, 1, SIZE, SIZE, 3)
    levels = g.add("Mul", g.add("Add", picture, g.const(1.0)), g.const(127.5))
    clipped = g.add("Round", g.add("Clip", levels, g.const(0.0), g.const(255.0)))
    g.add("Cast", clipped, out="pixels", to=TensorProto.UINT8)


def _text_encoder(g: GraphWriter) -> None:
    table = np.linspace(-0.1, 0.1, len(WORDS) * WIDTH).reshape(-1, WIDTH)
    g.add("Gather", g.const(table), "text_ids", out="text_tokens", axis=0)


def _pooled_encoder(g: GraphWriter) -> None:
    table = np.linspace(-0.1, 0.1, len(WORDS) * WIDTH).reshape(-1, WIDTH)
    rows = g.add("Gather", g.const(table), "pooled_ids", axis=0)
    g.add("ReduceMean", rows, g.const([1], np.int64), out="pooled", keepdims=0)


def _image_encoder(g: GraphWriter) -> None:
    levels = g.add("Div", g.add("Cast", "reference", to=TensorProto.FLOAT), g.const(255.0))
    colour = g.add("ReduceMean", levels, g.const([1], np.int64), keepdims=0)  # [1, 16, 3]
    g.add("Concat", colour, g.const(np.zeros((1, REFERENCE, 1))), out="reference_tokens", axis=2)


def _gate(g: GraphWriter) -> None:
    cut = (g.const(v, np.int64) for v in ([0], [3], [2]))
    colour = g.add("Slice", "reference_tokens", *cut)
    logits = g.add("ReduceMean", colour, g.const([1], np.int64), keepdims=1)  # [1, 1, 3]
    strong = g.add("Softmax", g.add("Mul", logits, g.const(20.0)), axis=-1)
    g.add("Expand", strong, g.const([1, BLOCKS, EXPERTS], np.int64), out="gate_weights")


def _modulation(g: GraphWriter) -> None:
    total = g.mean("pooled")
    for name in ("guidance", "sigma"):
        total = g.add("Add", total, g.add("Div", name, g.const(1000.0)))
    g.add("Concat", g.reshape(total, 1, 1), g.reshape("sigma", 1, 1), out="modulation", axis=1)


def _dit(g: GraphWriter) -> None:
    cut = (g.const(v, np.int64) for v in ([0], [64], [3]))
    wanted = _projected(g, g.add("Slice", "conditioning", *cut))
    for name in ("text_tokens", "reference_tokens"):
        wanted = g.add("Add", wanted, g.mean(name))
    _euler(g, g.add("Add", wanted, _modulated(g, 0)))


def _dit_head(g: GraphWriter) -> None:
    cut = (g.const(v, np.int64) for v in ([0], [64], [3]))
    g.add("Slice", "conditioning", *cut, out="hidden")
    means = g.add("Add", g.mean("text_tokens"), g.mean("reference_tokens"))
    g.add("Expand", means, g.const([1, 6, 4], np.int64), out="context")
    shape = g.const([1, *GRID, 64], np.int64)
    g.add("Expand", g.reshape(_modulated(g, 1), 1, 1, 1, 1), shape, out="first")
    moved = g.mean(g.add("Abs", g.add("Sub", "first", "previous")))
    size = g.add("Max", g.mean(g.add("Abs", "previous")), g.const(1e-12))
    g.reshape(g.add("Div", moved, size), 1, out="change")
    _euler(g, "residual")


def _dit_tail(g: GraphWriter) -> None:
    wanted = g.add("Add", _projected(g, "hidden"), g.mean("context"))
    _euler(g, g.add("Add", wanted, _modulated(g, 0), out="residual"))


def _modulated(g: GraphWriter, place: int) -> str:
    cut = (g.const(v, np.int64) for v in ([place], [place + 1], [1]))
    return g.reshape(g.add("Slice", "modulation", *cut), 1)


def _projected(g: GraphWriter, picture: str) -> str:
    return g.add("MatMul", picture, g.add("Transpose", "proj.weight", perm=[1, 0]))


def _euler(g: GraphWriter, wanted: str) -> None:
    velocity = g.add("Sub", "latents", wanted)
    g.add("Add", "latents", g.add("Mul", velocity, "delta"), out="next_latents")


def edge(text: str) -> tuple[TensorSpec, ...]:
    specs = []
    for part in text.split(";"):
        name, dtype, *shape = part.split()
        specs.append(TensorSpec(name, dtype, tuple(int(size) for size in shape)))
    return tuple(specs)


GRAPHS: dict[str, tuple[Callable[[GraphWriter], None], str, str, str]] = {
    "vae_encoder": (
        _vae_encoder,
        "pixels uint8 1 32 64 3; mask uint8 1 32 64",
        "conditioning float32 1 2 4 320",
        "",
    ),
    "vae_decoder": (_vae_decoder, "latents float32 1 2 4 64", "pixels uint8 1 32 32 3", ""),
    "text_encoder": (_text_encoder, "text_ids int64 1 6", "text_tokens float32 1 6 4", ""),
    "pooled_encoder": (_pooled_encoder, "pooled_ids int64 1 5", "pooled float32 1 4", ""),
    "image_encoder": (
        _image_encoder,
        "reference uint8 1 16 16 3",
        "reference_tokens float32 1 16 4",
        "",
    ),
    "gate": (
        _gate,
        """conditioning float32 1 2 4 320; reference_tokens float32 1 16 4;
        text_tokens float32 1 6 4""",
        "gate_weights float32 1 2 3",
        "",
    ),
    "modulation": (
        _modulation,
        "pooled float32 1 4; sigma float32 1; guidance float32 1",
        "modulation float32 1 2",
        "",
    ),
    "dit": (
        _dit,
        """latents float32 1 2 4 64; conditioning float32 1 2 4 320; text_tokens float32 1 6 4;
        reference_tokens float32 1 16 4; modulation float32 1 2; delta float32 1""",
        "next_latents float32 1 2 4 64",
        "proj.weight float32 64 64",
    ),
}

_HEAD = """hidden float32 1 2 4 64; context float32 1 6 4;
first float32 1 2 4 64; change float32 1; next_latents float32 1 2 4 64"""
CACHE_GRAPHS = {
    "dit_head": (
        _dit_head,
        f"{GRAPHS['dit'][1]}; previous float32 1 2 4 64; residual float32 1 2 4 64",
        _HEAD,
        "",
    ),
    "dit_tail": (
        _dit_tail,
        """latents float32 1 2 4 64; hidden float32 1 2 4 64; context float32 1 6 4;
        modulation float32 1 2; delta float32 1""",
        "next_latents float32 1 2 4 64; residual float32 1 2 4 64",
        "proj.weight float32 64 64",
    ),
}

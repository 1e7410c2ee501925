"""Graphs → engines for this processor."""

from __future__ import annotations

from pathlib import Path

from a2edit.export.bake import bake, link_or_copy
from a2edit.export.compile.openvino import engine_from_onnx


def save_engine(
    folder: Path, name: str, onnx: Path, shared: Path, precision: str, route: Path | None
) -> None:
    """<name>.blob of a graph, with the weight set `route` inside if there is one."""
    parts = folder / "parts"
    parts.mkdir()
    if route is None:
        link_or_copy(onnx, parts / onnx.name)
        link_or_copy(shared, parts / shared.name)
    else:
        bake(onnx, shared, route, parts)
    engine_from_onnx(parts / onnx.name, folder / f"{name}.blob", precision)
    for part in parts.iterdir():
        part.unlink()
    parts.rmdir()

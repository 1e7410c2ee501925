"""Graphs → engines for a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from a2edit.export.bake import bake
from a2edit.export.compile import compile_engine, engine_file
from a2edit.export.files import link_or_copy, read_json
from a2edit.export.openings import PROFILES_FILE

if TYPE_CHECKING:
    from a2edit.export.targets import TargetPlan


def save_engine(
    folder: Path, name: str, plan: TargetPlan, onnx: Path, shared: Path, route: Path | None
) -> None:
    """The engine of a graph, with the weight set `route` inside if there is one."""
    parts = folder / "parts"
    parts.mkdir()
    if route is None:
        link_or_copy(onnx, parts / onnx.name)
        for file in shared.glob("*.safetensors"):
            link_or_copy(file, parts / file.name)
    else:
        bake(onnx, shared, route, parts)
    precision = plan.policy(name).precision
    engine = folder / engine_file(name, plan.backend)
    profiles = read_json(onnx.parent / PROFILES_FILE)
    compile_engine(parts / onnx.name, engine, plan.target, plan.backend, precision, profiles)
    for part in parts.iterdir():
        part.unlink()
    parts.rmdir()

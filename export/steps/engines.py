"""Graphs → engines for a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from a2edit.export.bake import bake
from a2edit.export.compile import compile_engine, engine_file
from a2edit.export.edge import read_graph
from a2edit.export.files import link_or_copy, read_json
from a2edit.export.openings import PROFILES_FILE

if TYPE_CHECKING:
    from a2edit.export.openings import Openings
    from a2edit.export.source import Source
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


def save_program_engine(
    folder: Path,
    name: str,
    plan: TargetPlan,
    onnx: Path,
    shared: Path,
    source: Source,
    openings: Openings,
    *,
    fused: bool,
) -> None:
    """The engine of a graph, by inductor: its modules exported once more, in its variant's types.

    `onnx` is the variant, whose constants say how inputs are quantised; `shared` the folder of the
    parameters, whose types the program's inputs follow; `fused` as of `program_from_module`.

    Raises:
        EngineError: a weight has sides that the target multiplies in no 8-bit type, torch cannot
            export the graph, or inductor cannot compile it.
    """
    import onnx_ir as ir

    from a2edit.export.compile.inductor import engine_from_program
    from a2edit.export.products import check_sides
    from a2edit.export.program import program_from_module
    from a2edit.export.weights import places, shared_parameters

    spec = read_graph(onnx.parent, "").spec(name)
    if plan.target.device == "cuda":
        check_sides(spec)
    stored = {
        key: place.dtype
        for file in sorted(shared.glob("*.safetensors"))
        for key, place in places(file).items()
    }
    program = program_from_module(
        source.outline_graph(name),
        ir.load(onnx),
        spec,
        shared_parameters(source.outline),
        stored,
        openings,
        narrow=plan.policy(name).rest == "bf16",
        fused=fused,
    )
    engine_from_program(program, folder / engine_file(name, plan.backend), plan.target)

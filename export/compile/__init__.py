"""Graphs → engines, by backend; each is imported when a build first needs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from a2edit.export.openings import Profile
from a2edit.runtime.targets import Precision, Target, check_backend

_SUFFIXES = {"openvino": ".blob", "tensorrt_rtx": ".plan", "tensorrt": ".plan", "inductor": ".pt2"}


def engine_file(name: str, backend: str) -> str:
    """The file of an engine, by graph or "dit.<route>"."""
    return name + _SUFFIXES[backend]


def compiler_version(backend: str) -> str:
    """What a runtime must have to load the engines; raises TargetError where it is missing."""
    if backend == "openvino":
        from a2edit.runtime.engines import openvino

        return openvino.backend_version()
    if backend == "inductor":
        from a2edit.runtime.engines import inductor

        return inductor.backend_version()
    from a2edit.runtime.engines import tensorrt

    return tensorrt.backend_version(backend)


def check_compiler(target: Target, backend: str) -> None:
    """Raises TargetError where `backend` is not installed, or cannot build for `target` here."""
    check_backend(target, backend)
    compiler_version(backend)
    if backend == "inductor":
        from a2edit.export.compile import inductor

        inductor.check_inductor(target)
    if backend == "tensorrt" or (backend == "inductor" and target.device == "cuda"):
        from a2edit.export.compile import tensorrt

        tensorrt.check_here(target, backend)


def made_for(target: Target) -> str:
    """What an engine's bytes depend on beside its graph: of a CPU, which one it is."""
    if target.device == "cuda":
        return target.name
    from a2edit.export.compile import openvino

    return str(openvino.processor())


def compile_engine(
    onnx: Path,
    engine: Path,
    target: Target,
    backend: str,
    precision: Precision,
    profiles: Sequence[Profile] = (),
) -> None:
    """Write `engine`, and <stem>.layers.json beside it: what its products multiply.

    `backend` is one that compiles ONNX graphs; inductor compiles programs.

    `profiles` are for compilers that must know what sizes the graph's open ones will have.

    Raises:
        TargetError: the target lacks something that the graph has.
        EngineError: the backend refuses the graph.
    """
    if backend == "openvino":
        from a2edit.export.compile import openvino

        openvino.engine_from_onnx(onnx, engine, precision)
    else:
        from a2edit.export.compile import tensorrt

        tensorrt.engine_from_onnx(onnx, engine, target, backend, profiles)

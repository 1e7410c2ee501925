"""ONNX → TensorRT plan, by TensorRT for RTX (on any machine) or TensorRT (on a GPU of the target).

Every graph is built in a process of its own: its memory goes back to the system, and its peak is
the graph's own. The plan is streamed to disk under a temporary name and renamed when it is whole.
Weights that the graph keeps outside itself are mapped by TensorRT's parser, not read.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from a2edit.export.compile.layers import SUFFIX, LayerTypes, pair
from a2edit.export.compile.plan_layers import plan_layer_types
from a2edit.export.openings import Profile
from a2edit.runtime.engines.cuda import capability
from a2edit.runtime.engines.tensorrt import message_log, tensorrt_module
from a2edit.runtime.errors import A2EditError, EngineError, TargetError
from a2edit.runtime.memory import peak_resident_mb
from a2edit.runtime.targets import (
    TARGETS,
    Precision,
    Target,
    check_backend,
    check_precision,
    target_of,
)

_ERRORS: dict[str, type[A2EditError]] = {"EngineError": EngineError, "TargetError": TargetError}
# TensorRT's types that not every target computes in.
_NEEDS: dict[str, Precision] = {"FP8": "fp8", "BF16": "bf16", "INT8": "int8"}
_SHORT = {"FLOAT": "fp32", "HALF": "fp16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a plan took.

    Attributes:
        size: of the plan, in bytes.
        seconds: wall clock, parsing included.
        peak_mb: peak resident memory of the build, mapped weights included.
    """

    size: int
    seconds: float
    peak_mb: float


def engine_from_onnx(
    onnx: Path, plan: Path, target: Target, backend: str, profiles: Sequence[Profile] = ()
) -> BuildReport:
    """Build the plan of a strongly typed graph, and <plan's stem>.layers.json beside it.

    Args:
        onnx: graph; its tensors are computed in the types that they have in the file.
        plan: file to write.
        target: GPU that it will run on.
        backend: "tensorrt_rtx", which builds for any target here; or "tensorrt", which builds for
            the GPU at hand.
        profiles: shapes of inputs that have open sizes, by input; one engine serves all profiles.

    Raises:
        TargetError: the target or the machine lacks the backend, or a type that the graph has.
        EngineError: TensorRT refuses the graph; the message has its first error.
    """
    check_backend(target, backend)
    job = {
        "onnx": str(onnx),
        "plan": str(plan),
        "target": target.name,
        "backend": backend,
        "profiles": profiles,
    }
    command = [sys.executable, "-m", __name__, json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 # ourselves
    if done.returncode != 0:
        # a kernel that runs out of memory kills without a word
        lines = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        raise EngineError(f"graph {onnx.stem}: {backend} cannot build it: {lines[-1]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise _ERRORS[answer["error"]](answer["message"])
    return BuildReport(**answer)


def _build(
    onnx: str, plan: str, target: str, backend: str, profiles: Sequence[Profile]
) -> BuildReport:
    start = time.perf_counter()
    trt = tensorrt_module(backend)
    messages = message_log(trt)
    builder = trt.Builder(messages)
    # strong typing is all that newer versions have, and they may drop its name
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, messages)
    if not parser.parse_from_file(onnx):
        raise EngineError(f"graph {Path(onnx).stem}: {backend} cannot read it: {_first(parser)}")
    _check_types(network, TARGETS[target], Path(onnx).stem)
    config = _config(trt, builder, TARGETS[target], profiles)
    temporary = Path(f"{plan}.part")
    try:
        with temporary.open("wb") as file:
            done = builder.build_serialized_network_to_stream(network, config, _writer(trt, file))
        if not done:
            raise EngineError(
                f"graph {Path(onnx).stem}: {backend} cannot build it for {target}: "
                f"{messages.reason()}"
            )
        compiled = plan_layer_types(temporary)
        layers = (
            replace(compiled, profiles=max(1, len(profiles)))
            if compiled
            else network_layer_types(network)
        )
        layers.write(Path(plan).with_suffix(SUFFIX))
        temporary.replace(plan)
    finally:
        temporary.unlink(missing_ok=True)
    return BuildReport(
        size=Path(plan).stat().st_size,
        seconds=time.perf_counter() - start,
        peak_mb=peak_resident_mb(),
    )


def _first(parser: Any) -> str:
    """The parser's first error in a line, with the node that it stands at."""
    if not parser.num_errors:
        return "it does not say why"
    error = parser.get_error(0)
    node = error.node_name()
    lines = [line for line in error.desc().splitlines() if not line.startswith("Invalid Node")]
    return (f"node {node!r} ({error.node_operator()}): " if node else "") + lines[0]


def _config(trt: Any, builder: Any, target: Target, profiles: Sequence[Profile]) -> Any:
    config = builder.create_builder_config()
    # fp32 means fp32: by default its products would be rounded to TF32
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if trt.__name__ == "tensorrt_rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, target.name.upper()), 0)
    else:
        check_here(target, "tensorrt")
    for profile in profiles:
        shapes = builder.create_optimization_profile()
        for name, (smallest, usual, largest) in profile.items():
            shapes.set_shape(name, smallest, usual, largest)
        config.add_optimization_profile(shapes)
    return config


def check_here(target: Target, backend: str) -> None:
    """Raises TargetError unless this machine has the GPU that `backend` builds for: its own."""
    here = target_of(capability())
    if here != target:
        raise TargetError(
            f"{backend} builds for the GPU at hand, which is {here.name} and not {target.name}: "
            f"build there, or use --target {here.name}"
        )


def _writer(trt: Any, file: BinaryIO) -> Any:
    """A stream that TensorRT writes the plan to, part by part."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]

    class FileWriter(trt.IStreamWriter):
        def __init__(self) -> None:
            trt.IStreamWriter.__init__(self)

        def write(self, data: Any, size: int | None = None) -> int:
            # newer versions give a pointer in a capsule and a size, older ones bytes
            if size is None:
                return file.write(data)
            return file.write((ctypes.c_char * size).from_address(pointer(data, None)))

    return FileWriter()


def _check_types(network: Any, target: Target, name: str) -> None:
    """Raises TargetError where the graph has a type that the target does not compute in."""
    types = {network.get_input(place).dtype.name for place in range(network.num_inputs)}
    for layer in map(network.get_layer, range(network.num_layers)):
        types |= {layer.get_output(place).dtype.name for place in range(layer.num_outputs)}
    for kind in sorted(types & _NEEDS.keys()):
        try:
            check_precision(target, _NEEDS[kind])
        except TargetError as error:
            raise TargetError(f"graph {name}: {error}") from None


def network_layer_types(network: Any) -> LayerTypes:
    """Products of the network as it was parsed, by what their operands were quantised to."""
    layers = [network.get_layer(place) for place in range(network.num_layers)]
    maker = {
        layer.get_output(place).name: layer
        for layer in layers
        for place in range(layer.num_outputs)
    }
    counts: dict[str, dict[str, int]] = {"MATRIX_MULTIPLY": {}, "CONVOLUTION": {}}
    for layer in layers:
        found = counts.get(layer.type.name)
        if found is not None:
            operands = [layer.get_input(place) for place in range(min(layer.num_inputs, 2))]
            if len(operands) == 1:  # a convolution's weights may be its own
                operands *= 2
            kind = pair(*(_carried(tensor, maker) for tensor in operands))
            found[kind] = found.get(kind, 0) + 1
    return LayerTypes(
        source="network", linear=counts["MATRIX_MULTIPLY"], convolution=counts["CONVOLUTION"]
    )


def _carried(tensor: Any, maker: Mapping[str, Any]) -> str:
    """The type that a tensor was dequantised from, before it was moved about; else its own."""
    while (layer := maker.get(tensor.name)) is not None:
        if layer.type.name not in {"SHUFFLE", "UNSQUEEZE", "SQUEEZE", "IDENTITY", "DEQUANTIZE"}:
            break
        tensor = layer.get_input(0)
        if layer.type.name == "DEQUANTIZE":
            break
    name: str = tensor.dtype.name
    return _SHORT.get(name, name.lower())


def _main(job: str) -> None:
    """Print one line of JSON: the report, or the error that the caller raises."""
    try:
        answer = asdict(_build(**json.loads(job)))
    except A2EditError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1])

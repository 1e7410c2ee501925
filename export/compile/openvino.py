"""ONNX → OpenVINO engine for this machine's processor.

Every graph is compiled in a process of its own: OpenVINO numbers generated nodes by a counter of
the process, so that the second model compiled in one has other bytes than the first. Alone, the
same graph gives the same bytes (docs/decisions/0006).
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Literal

from a2edit.runtime.errors import EngineError, TargetError
from a2edit.runtime.targets import Precision

BACKEND = "openvino"
# What the processor must offer for a precision, in OpenVINO's words.
_CAPABILITY: dict[Precision, str] = {"fp32": "FP32", "bf16": "BF16", "int8": "INT8"}


def processor() -> tuple[str, tuple[str, ...]]:
    """Name and capabilities of this machine's processor, as OpenVINO tells them."""
    import openvino

    core = openvino.Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return str(core.get_property("CPU", "FULL_DEVICE_NAME")), tuple(sorted(capabilities))


def choose_precision(
    asked: Precision | Literal["auto"], capabilities: tuple[str, ...]
) -> Precision:
    """The precision to build: `asked`, or for "auto" bf16 where the processor has it, else fp32.

    Raises:
        TargetError: the processor lacks what was asked for. OpenVINO would compute in fp32 instead
            and say nothing.
    """
    if asked == "auto":
        return "bf16" if _CAPABILITY["bf16"] in capabilities else "fp32"
    if _CAPABILITY.get(asked) in capabilities:
        return asked
    allowed = ", ".join(name for name, word in _CAPABILITY.items() if word in capabilities)
    raise TargetError(
        f"this processor has no {asked} arithmetic, which --precision {asked} asks for; "
        f"it offers {allowed}: choose one of them or auto, or build on a processor that has it"
    )


def engine_from_onnx(onnx: Path, engine: Path, precision: str) -> None:
    """Compile a graph, write its engine, and <engine's stem>.layers.json beside it.

    The caller has chosen a precision that there is.

    Raises:
        EngineError: OpenVINO refuses the graph.
    """
    command = [sys.executable, "-m", __name__, str(onnx), str(engine), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 # ourselves
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise EngineError(f"graph {onnx.stem}: OpenVINO cannot compile it: {lines[-1]}")


def _compile(onnx: str, engine: str, precision: str) -> None:
    import openvino

    from a2edit.export.compile.layers import SUFFIX
    from a2edit.export.compile.openvino_layers import runtime_layer_types
    from a2edit.runtime.engines.openvino import device_options

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(onnx), "CPU", device_options(precision))
    stream = io.BytesIO()
    compiled.export_model(stream)
    path = Path(engine)
    path.write_bytes(stream.getvalue())
    runtime_layer_types(compiled).write(path.with_name(path.stem + SUFFIX))


if __name__ == "__main__":
    _compile(*sys.argv[1:])

"""OpenVINO on the processor: the default engine."""

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from a2edit.runtime.engines.base import Array, CheckedEngine, GraphSpec
from a2edit.runtime.errors import DeviceMemoryError, EngineError, TargetError

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


@cache
def _core() -> Any:
    return ov.Core()


def backend_version() -> str:
    """The version that a blob must have been compiled by to be loaded."""
    return str(ov.get_version())


def device_options(precision: str) -> dict[str, str]:
    """The settings that make the processor compute in `precision`.

    OpenVINO itself would take bf16 wherever it is fast, and emulate it where it is not; here the
    bundle decides. Raises TargetError where the processor lacks the type.
    """
    if precision not in PRECISIONS:
        raise TargetError(f"precision {precision!r} is unknown; OpenVINO has {list(PRECISIONS)}")
    offered = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in offered:
        raise TargetError(
            "this bundle computes in bf16, which this processor lacks "
            f"(it offers {', '.join(sorted(offered))}): build one with --precision fp32 or int8"
        )
    return {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        # or it rounds the inputs of products whose weights are stored in 8 bits to 8 bits as well
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "CACHE_DIR": "",
    }


class OpenVinoEngine(CheckedEngine):
    """One compiled model and one infer request.

    Routed weights are set as tensors over the caller's memory: binding moves pointers only.
    """

    def __init__(self, spec: GraphSpec, compiled: Any) -> None:
        super().__init__(spec)
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._tensors: dict[str, Any] = {}  # alive for as long as the request points into them

    def _bind(self, tensors: Mapping[str, Array]) -> None:
        for name, array in tensors.items():
            self._set(name, array)

    def _unbind(self) -> None:
        # a request cannot forget an input; another one takes less than a millisecond
        self._request = self._compiled.create_infer_request()
        self._tensors.clear()

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        for name, array in inputs.items():
            self._set(name, array)
        try:
            self._request.infer()
        except (RuntimeError, MemoryError) as error:
            raise _failure(f"graph {self.spec.name!r} failed to run", error) from error
        # the request reuses its output buffers at the next run
        return {
            spec.name: np.array(self._request.get_tensor(spec.name).data)
            for spec in self.spec.outputs
        }

    def _close(self) -> None:
        self._request = self._compiled = None
        self._tensors.clear()

    def _set(self, name: str, array: Array) -> None:
        tensor = ov.Tensor(array, shared_memory=True)
        try:
            self._request.set_tensor(name, tensor)
        except RuntimeError as error:
            raise _failure(f"graph {self.spec.name!r} refused input {name!r}", error) from error
        self._tensors[name] = tensor


def engine_from_blob(spec: GraphSpec, path: Path, precision: str) -> OpenVinoEngine:
    """Load what `export_model` wrote; the caller has checked that the version is ours."""
    options = device_options(precision)
    try:
        return OpenVinoEngine(
            spec, _core().import_model(io.BytesIO(path.read_bytes()), "CPU", options)
        )
    except (RuntimeError, MemoryError) as error:
        raise _failure(f"engine {str(path)!r} could not be loaded", error) from error


def engine_from_onnx(spec: GraphSpec, path: Path, precision: str) -> OpenVinoEngine:
    """Compile a graph of the bundle here and now."""
    options = device_options(precision)
    try:
        model = _core().read_model(path)
        return OpenVinoEngine(spec, _core().compile_model(model, "CPU", options))
    except (RuntimeError, MemoryError) as error:
        raise _failure(f"graph {str(path)!r} could not be compiled", error) from error


def _failure(what: str, error: BaseException) -> EngineError | DeviceMemoryError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        return DeviceMemoryError(f"{what}: out of memory; close other programs or use int8")
    return EngineError(f"{what}: {reason}")

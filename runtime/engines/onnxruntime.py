"""ONNX Runtime on the processor: the reference engine for every graph."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from a2edit.runtime.engines.base import Array, CheckedEngine, GraphSpec
from a2edit.runtime.errors import EngineError, TargetError


def _module() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise TargetError(
            "the engine 'onnxruntime' needs the package of that name: "
            "pip install 'a2edit[onnxruntime]'"
        ) from None
    return onnxruntime


def backend_version() -> str:
    return str(_module().__version__)


class OnnxRuntimeEngine(CheckedEngine):
    """One session and its binding; routed weights are bound once, by pointer."""

    def __init__(self, spec: GraphSpec, session: Any) -> None:
        super().__init__(spec)
        self._session = session
        self._binding = session.io_binding()
        self._weights: Mapping[str, Array] = {}

    def _bind(self, tensors: Mapping[str, Array]) -> None:
        self._weights = tensors
        for name, array in tensors.items():
            self._binding.bind_cpu_input(name, array)

    def _unbind(self) -> None:
        self._binding = self._session.io_binding()
        self._weights = {}

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        for name, array in inputs.items():
            self._binding.bind_cpu_input(name, array)
        for spec in self.spec.outputs:
            self._binding.bind_output(spec.name)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # its errors share no base class
            raise EngineError(f"graph {self.spec.name!r} failed to run: {error}") from error
        values = self._binding.copy_outputs_to_cpu()
        return {spec.name: value for spec, value in zip(self.spec.outputs, values, strict=True)}

    def _close(self) -> None:
        self._binding = self._session = None
        self._weights = {}


def engine_from_onnx(spec: GraphSpec, path: Path, precision: str) -> OnnxRuntimeEngine:
    """A session on the CPU provider. It computes in the graph's own types: no bf16 here."""
    if precision == "bf16":
        raise TargetError(
            "onnxruntime's CPU provider has no bf16: use --engine openvino, or an fp32 bundle"
        )
    onnxruntime = _module()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # quantised graphs have signed activations
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors share no base class
        raise EngineError(f"graph {str(path)!r} could not be compiled: {error}") from error
    return OnnxRuntimeEngine(spec, session)

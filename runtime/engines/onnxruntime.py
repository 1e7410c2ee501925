"""ONNX Runtime: the reference engine for every graph on the processor; two providers for GPUs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from a2edit.runtime.engines.base import (
    Array,
    CheckedEngine,
    DeviceTensor,
    GraphSpec,
    numpy_name,
)
from a2edit.runtime.engines.copies import DeviceCopies
from a2edit.runtime.errors import DeviceMemoryError, EngineError, TargetError

# Of each backend its providers, the one that it is named after first, those for the rest behind.
PROVIDERS = {
    "onnxruntime": ("CPUExecutionProvider",),
    "onnxruntime-cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "onnxruntime-tensorrt": (
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ),
}
# ONNX's numbers of types (onnx.TensorProto.DataType): numpy has no word for some.
_ONNX_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "bfloat16": 16,
    "float8_e4m3fn": 17,
}


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
    """One session and its binding.

    On the processor routed weights are bound by pointer; on a GPU they are copied once, and stay
    there for as long as their arrays live.
    """

    def __init__(self, spec: GraphSpec, session: Any, device: str = "cpu") -> None:
        super().__init__(spec)
        self._session = session
        self._device = device
        self._binding = session.io_binding()
        self._types = {part.name: _ONNX_TYPES[part.dtype] for part in spec.entrances + spec.outputs}
        self._copies: DeviceCopies[Any] = DeviceCopies(self._uploaded)
        self._weights: Mapping[str, Any] = {}  # arrays, or their copies on the device

    def _bind(self, tensors: Mapping[str, Array]) -> None:
        if self._device == "cpu":
            self._weights = tensors
            for name, array in tensors.items():
                self._bind_array(name, array)
            return
        self._weights = self._copies.of(tensors)
        for name, value in self._weights.items():
            self._bind_address(name, tensors[name].shape, value.data_ptr())

    def _bind_placed(
        self, parameters: Mapping[str, Array], weights: Mapping[str, DeviceTensor]
    ) -> None:
        if self._device == "cpu":
            super()._bind_placed(parameters, weights)
        self._bind(parameters)
        self._weights = {**self._weights, **weights}
        for name, tensor in weights.items():
            self._bind_address(name, tensor.shape, tensor.address)

    def _bind_address(self, name: str, shape: tuple[int, ...], address: int) -> None:
        # copies are of the bits: only here are they given the type that they are of
        self._binding.bind_input(name, self._device, 0, self._types[name], shape, address)

    def _unbind(self) -> None:
        self._binding = self._session.io_binding()
        self._weights = {}

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        for name, array in inputs.items():
            self._bind_array(name, array)
        outputs: dict[str, Array] = {}
        for part in self.spec.outputs:
            if part.is_open:
                self._binding.bind_output(part.name, "cpu")  # of the size that comes out
                continue
            array = outputs[part.name] = np.empty(part.shape, numpy_name(part.dtype))
            kind, address = self._types[part.name], array.ctypes.data
            self._binding.bind_output(part.name, "cpu", 0, kind, array.shape, address)
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # its errors share no base class
            raise _failure(f"graph {self.spec.name!r} failed to run", error) from error
        if len(outputs) < len(self.spec.outputs):
            found = self._binding.copy_outputs_to_cpu()
            outputs = {part.name: it for part, it in zip(self.spec.outputs, found, strict=True)}
        return outputs

    def _close(self) -> None:
        self._binding = self._session = None
        self._weights = {}
        self._copies.clear()

    def _bind_array(self, name: str, array: Array) -> None:
        kind, address = self._types[name], array.ctypes.data
        try:
            self._binding.bind_input(name, "cpu", 0, kind, array.shape, address)
        except Exception as error:  # its errors share no base class
            raise _failure(f"graph {self.spec.name!r} refused input {name!r}", error) from error

    def _uploaded(self, array: Array) -> Any:
        try:
            return _module().OrtValue.ortvalue_from_numpy(array, self._device, 0)
        except Exception as error:  # its errors share no base class
            what = f"graph {self.spec.name!r}: its weights cannot be copied to the GPU"
            raise _failure(what, error) from error


def engine_from_onnx(
    spec: GraphSpec, path: Path, precision: str, backend: str = "onnxruntime"
) -> OnnxRuntimeEngine:
    """A session that computes in the graph's own types.

    Args:
        spec: of the graph.
        path: the graph.
        precision: what its engine computes in. The processor has no bf16: a bf16 network runs here
            as a graph that rounds to bf16 and computes in fp32, whose precision is "fp32".
        backend: one of PROVIDERS.

    Raises:
        TargetError: no such backend, package, provider or GPU, or no bf16.
        EngineError: onnxruntime refuses the graph.
    """
    if backend not in PROVIDERS:
        raise TargetError(f"backend {backend!r} is unknown: use {', '.join(PROVIDERS)}")
    provider = PROVIDERS[backend][0]
    if backend == "onnxruntime" and precision == "bf16":
        raise TargetError(
            "onnxruntime's CPU provider has no bf16: use --engine openvino, or an fp32 bundle"
        )
    onnxruntime = _module()
    offered = onnxruntime.get_available_providers()
    if provider not in offered:
        raise TargetError(
            f"backend {backend!r} needs the {provider}, which the installed onnxruntime "
            f"{onnxruntime.__version__} lacks (it has {', '.join(offered)}): "
            "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        )
    if backend != "onnxruntime":
        onnxruntime.preload_dlls()  # CUDA and cuDNN may be installed as packages
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Every node computes what it says: fused, int8 products were wrong by a tenth where weights are
    # inputs (1.31.1), and fp8 ones are taken for int8 ones and refused.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=_configured(backend, precision)
        )
    except Exception as error:  # its errors share no base class
        raise _failure(f"graph {str(path)!r} could not be compiled", error) from error
    # where a GPU's provider cannot start, the session goes on without it and only logs why
    if provider not in session.get_providers():
        raise TargetError(
            f"backend {backend!r}: the {provider} does not start here; it needs an NVIDIA GPU, its "
            "driver, CUDA and cuDNN: use --engine onnxruntime, or a machine that has them"
        )
    return OnnxRuntimeEngine(spec, session, "cpu" if backend == "onnxruntime" else "cuda")


def _configured(backend: str, precision: str) -> list[str | tuple[str, dict[str, str]]]:
    """Providers with their options: TensorRT is to use the types that the graph has."""
    first, *others = PROVIDERS[backend]
    if backend != "onnxruntime-tensorrt":
        return [first, *others]
    options = {
        "trt_int8_enable": str(int(precision == "int8")),
        "trt_bf16_enable": str(int(precision != "fp32")),
    }
    return [(first, options), *others]


def _failure(what: str, error: Exception) -> EngineError | DeviceMemoryError:
    text = str(error).strip()
    if "Failed to allocate memory" in text or "out of memory" in text.lower():
        return DeviceMemoryError(
            f"{what}: out of memory; close what else uses it, or build with --preset small"
        )
    return EngineError(f"{what}: {text}")

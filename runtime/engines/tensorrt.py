"""TensorRT and TensorRT for RTX on an NVIDIA GPU: one Python API under two module names."""

import logging
import mmap
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from a2edit.runtime.engines.base import (
    OPEN,
    Array,
    CheckedEngine,
    DeviceTensor,
    GraphSpec,
    numpy_name,
)
from a2edit.runtime.engines.copies import DeviceCopies
from a2edit.runtime.engines.cuda import CapturedStep, DeviceBuffer, Stream, capability
from a2edit.runtime.errors import DeviceMemoryError, EngineError, TargetError
from a2edit.runtime.targets import target_of

# Of each backend, what to install.
BACKENDS = {
    "tensorrt_rtx": "pip install 'a2edit[rtx]'",
    "tensorrt": "install NVIDIA's tensorrt for this machine's driver, then 'a2edit[tensorrt]'",
}
# Our names of types by TensorRT's.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "FP8": "float8_e4m3fn",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}

# By tensor.
Shapes: TypeAlias = dict[str, tuple[int, ...]]

log = logging.getLogger(__name__)


def tensorrt_module(backend: str) -> Any:
    """The module of a backend; raises TargetError where it is unknown or not installed."""
    if backend not in BACKENDS:
        raise TargetError(f"backend {backend!r} is unknown; of TensorRT there are {list(BACKENDS)}")
    try:
        return import_module(backend)
    except ImportError as error:
        raise TargetError(
            f"backend {backend!r} is not installed ({error}): {BACKENDS[backend]}"
        ) from None


def backend_version(backend: str) -> str:
    """The version that a plan must have been built by to be loaded."""
    return str(tensorrt_module(backend).__version__)


def message_log(trt: Any) -> Any:
    """A TensorRT logger that keeps errors for our exceptions; the rest is for debugging."""

    class MessageLog(trt.ILogger):  # type: ignore[misc] # which module it is of is known here
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in {trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR}:
                self.errors.append(message)
            log.debug("%s", message)

        def reason(self) -> str:
            """The first error since the last call, which those after it follow from."""
            lines = self.errors[0].strip().splitlines() if self.errors else ()
            self.errors.clear()
            return lines[0] if lines else "it does not say why"

    return MessageLog()


class TensorRtEngine(CheckedEngine):
    """One execution context, its device buffers and its stream.

    Inputs are copied to the GPU when they change, and outputs back at every run. Weight sets are
    copied once, and stay there for as long as their arrays live: binding such a set again sets
    addresses only. From the second run after a bind on, the step is replayed as a CUDA graph, for
    as long as inputs have the same shapes.
    """

    def __init__(self, spec: GraphSpec, engine: Any, messages: Any) -> None:
        super().__init__(spec)
        _check_edge(spec, engine)
        self._engine = engine
        self.workspace = int(engine.device_memory_size_v2)
        self._messages = messages
        self._stream = Stream()
        self._copies = DeviceCopies(self._uploaded)
        self._weights: dict[str, DeviceBuffer | DeviceTensor] = {}
        self._context = engine.create_execution_context()
        if self._context is None:
            raise DeviceMemoryError(
                f"graph {spec.name!r}: no room on the GPU for its activations "
                f"({messages.reason()}); close what else uses it, or build for a smaller size"
            )
        self._buffers: dict[str, DeviceBuffer] = {}
        self._shapes: Shapes = {}  # of the inputs, in force
        self._filled = False  # whether their buffers have what the last run read
        self._outputs: Shapes = {}
        self._profile = 0  # in force from the start
        self._ran = False  # since the last bind
        self._captured: CapturedStep | None = None
        self._capturable = True
        if not any(part.is_open for part in spec.inputs):
            self._take({part.name: part.shape for part in spec.inputs})

    def _take(self, shapes: Shapes) -> None:
        """Set what depends on the inputs' shapes, and make room for them and the outputs."""
        if shapes == self._shapes:
            return
        self._forget_step()
        self._shapes, self._filled = {}, False
        profile = _fitting_profile(self.spec, shapes, self._engine)
        if profile != self._profile:
            done = self._context.set_optimization_profile_async(profile, self._stream.handle)
            self._set(f"profile {profile}", done)
            self._stream.wait()
            self._profile = profile
        bound = {part.name: part.shape for part in self.spec.weights + self.spec.parameters}
        for name, shape in {**bound, **shapes}.items():
            self._set(name, self._context.set_input_shape(name, shape))
        self._outputs = {
            part.name: tuple(self._context.get_tensor_shape(part.name))
            if part.is_open
            else part.shape
            for part in self.spec.outputs
        }
        for part in self.spec.inputs + self.spec.outputs:
            nbytes = part.nbytes_of({**shapes, **self._outputs}[part.name])
            buffer = self._buffers.get(part.name)
            if buffer is None or buffer.nbytes != nbytes:
                if buffer is not None:
                    self._buffers.pop(part.name).close()
                self._buffers[part.name] = DeviceBuffer(nbytes)
        for name, placed in {**self._buffers, **self._weights}.items():
            self._set(name, self._context.set_tensor_address(name, placed.address))
        self._shapes = shapes

    def _bind(self, tensors: Mapping[str, Array]) -> None:
        self._bind_placed(tensors, {})

    def _bind_placed(
        self, parameters: Mapping[str, Array], weights: Mapping[str, DeviceTensor]
    ) -> None:
        self._forget_step()
        self._weights.clear()
        self._weights = {**self._copies.of(parameters), **weights}
        self._stream.wait()
        for name, placed in self._weights.items():
            self._set(name, self._context.set_tensor_address(name, placed.address))

    def _uploaded(self, array: Array) -> DeviceBuffer:
        buffer = DeviceBuffer(array.nbytes)
        self._stream.upload(array, buffer)
        return buffer

    def _unbind(self) -> None:
        self._forget_step()
        self._weights.clear()

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self._take({name: array.shape for name, array in inputs.items()})
        kept = self._unchanged if self._filled else frozenset()
        self._filled = False
        for name, array in inputs.items():
            if name not in kept:
                self._stream.upload(array, self._buffers[name])
        self._step()
        outputs = {
            part.name: np.empty(self._outputs[part.name], numpy_name(part.dtype))
            for part in self.spec.outputs
        }
        for name, array in outputs.items():
            self._stream.download(self._buffers[name], array)
        self._stream.wait()
        self._filled = True
        return outputs

    def _close(self) -> None:
        self._forget_step()
        self._weights.clear()
        self._copies.clear()
        # in this order: a context must go before its engine
        self._context = None
        self._engine = None
        for buffer in self._buffers.values():
            buffer.close()
        self._stream.close()

    def _step(self) -> None:
        """Replay the step; capture it at the second run, when kernels are chosen and loaded."""
        if self._captured is None and self._ran and self._capturable:
            self._captured = self._capture()
        if self._captured is not None:
            self._captured.launch()
        else:
            self._enqueue()
            self._ran = True

    def _capture(self) -> CapturedStep | None:
        # TensorRT for RTX compiles kernels when they are first used, and says when that is over
        ready = getattr(self._context, "is_stream_capturable", None)
        if ready is not None and not ready(self._stream.handle):
            return None
        try:
            return CapturedStep(self._stream, self._enqueue)
        except EngineError as error:
            self._capturable = False
            log.warning("graph %r runs without a CUDA graph: %s", self.spec.name, error)
            return None

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError(f"graph {self.spec.name!r} failed to run: {self._messages.reason()}")

    def _forget_step(self) -> None:
        self._ran = False
        if self._captured is not None:
            self._captured.close()
            self._captured = None

    def _set(self, name: str, done: bool) -> None:
        if not done:
            raise EngineError(
                f"graph {self.spec.name!r} refused tensor {name!r}: {self._messages.reason()}"
            )


def engine_from_blob(spec: GraphSpec, path: Path, precision: str, backend: str) -> TensorRtEngine:
    """Load a plan; the caller has checked that it is for this GPU, and by this version.

    Args:
        spec: of the graph; the plan may leave more sizes open than it does.
        path: the plan; it is mapped, and not read into memory as a whole.
        precision: that the plan was built for; it computes in the types of its network.
        backend: "tensorrt_rtx" or "tensorrt".

    Raises:
        TargetError: no such backend, no GPU, or a GPU that has no `precision`.
        DeviceMemoryError: it does not fit.
        EngineError: the plan is damaged, or of another version or another GPU after all.
    """
    trt = tensorrt_module(backend)
    target = target_of(capability())
    if precision not in target.precisions:
        raise TargetError(
            f"engine {str(path)!r} computes in {precision}, which this GPU ({target.name}) lacks; "
            f"it has {', '.join(target.precisions)}: use an engine that was built for it"
        )
    messages = message_log(trt)
    runtime = trt.Runtime(messages)
    with path.open("rb") as file:
        try:
            plan = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise EngineError(f"engine {str(path)!r} is empty: build the bundle again") from None
    with plan:
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        reason = messages.reason()
        if "out of memory" in reason.lower():
            raise DeviceMemoryError(
                f"engine {str(path)!r} ({path.stat().st_size / 1e9:.1f} GB) does not fit into the "
                "GPU's memory; close what else uses it, or build with --preset small"
            )
        raise EngineError(
            f"engine {str(path)!r} could not be loaded by {backend} {trt.__version__} on "
            f"{target.name}: {reason}; build it again with --target {target.name}"
        )
    return TensorRtEngine(spec, engine, messages)


def _fitting_profile(spec: GraphSpec, shapes: Shapes, engine: Any) -> int:
    """The first profile that the inputs' shapes lie in; 0 for a plan that leaves no size open."""
    parts = [
        replace(part, shape=shapes.get(part.name, part.shape))
        for part in spec.entrances
        if OPEN in engine.get_tensor_shape(part.name)
    ]
    if not parts:
        return 0
    for profile in range(engine.num_optimization_profiles):
        ranges = [engine.get_tensor_profile_shape(part.name, profile) for part in parts]
        if all(
            low <= size <= high
            for part, (lows, _, highs) in zip(parts, ranges, strict=True)
            for low, size, high in zip(lows, part.shape, highs, strict=True)
        ):
            return profile
    raise EngineError(
        f"graph {spec.name!r}: none of the engine's {engine.num_optimization_profiles} profiles "
        f"takes {', '.join(map(str, parts))}; build the bundle again for this size"
    )


def _check_edge(spec: GraphSpec, engine: Any) -> None:
    """Raises EngineError where the plan's tensors are not those of `spec`."""
    found = {
        name: _DTYPES.get(engine.get_tensor_dtype(name).name, "?")
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
    }
    for part in spec.entrances + spec.outputs:
        if found.pop(part.name, None) != part.dtype:
            raise EngineError(
                f"graph {spec.name!r}: the engine has no tensor {part}; build the bundle again"
            )
        shape = tuple(engine.get_tensor_shape(part.name))
        if len(shape) != len(part.shape) or any(
            has not in {OPEN, wants} for has, wants in zip(shape, part.shape, strict=True)
        ):
            raise EngineError(
                f"graph {spec.name!r}: {part} has the shape {list(shape)} in the engine; "
                "build the bundle again"
            )
    if found:
        raise EngineError(
            f"graph {spec.name!r}: the engine asks for {', '.join(sorted(found))} too; "
            "build the bundle again"
        )

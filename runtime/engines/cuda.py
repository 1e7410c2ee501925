"""What engines need of CUDA, through cuda-python: memory, one stream, captured steps.

Everything is on the first visible GPU (CUDA_VISIBLE_DEVICES says which that is). Calls give
(error, results…), as cuda.bindings.runtime does; `_checked` makes exceptions of them.
"""

import weakref
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from a2edit.runtime.engines.base import Array, DeviceTensor
from a2edit.runtime.errors import DeviceMemoryError, EngineError, TargetError

# Errors that mean that there is no GPU to use at all.
_ABSENT = ("cudaErrorNoDevice", "cudaErrorInsufficientDriver", "cudaErrorStubLibrary")


@cache
def bindings(part: str) -> Any:
    """A module of cuda-python: "runtime", "driver"; raises TargetError where it is missing."""
    try:
        return import_module(f"cuda.bindings.{part}")
    except ImportError:
        raise TargetError(
            "running on an NVIDIA GPU needs the package cuda-bindings: pip install 'a2edit[rtx]'"
        ) from None


def _runtime() -> Any:
    return bindings("runtime")


def _checked(what: str, result: tuple[Any, ...]) -> Any:
    """The result of a CUDA call, the first if it has several.

    Raises:
        TargetError: no GPU, or no driver for it.
        DeviceMemoryError: the GPU's memory is full.
        EngineError: anything else.
    """
    values = _checked_all(what, result)
    return values[0] if values else None


def _checked_all(what: str, result: tuple[Any, ...]) -> list[Any]:
    """Every result of a CUDA call; raises as `_checked`."""
    error, *values = result
    if error == _runtime().cudaError_t.cudaSuccess:
        return values
    text = _runtime().cudaGetErrorString(error)[1]
    reason = text.decode() if isinstance(text, bytes) else str(text)
    if error.name in _ABSENT:
        raise TargetError(
            f"this needs an NVIDIA GPU with its driver, and CUDA says: {reason}; use --device cpu "
            "with a bundle that has cpu engines, or a machine with a GPU"
        )
    if error.name == "cudaErrorMemoryAllocation":
        raise DeviceMemoryError(
            f"{what}: the GPU's memory is full; close what else uses it, or build with "
            "--preset small"
        )
    raise EngineError(f"{what}: CUDA says: {reason}")


def capability() -> tuple[int, int]:
    """(major, minor) of the GPU; raises TargetError where there is none."""
    cuda = _runtime()
    names = cuda.cudaDeviceAttr
    major, minor = (
        _checked("the GPU cannot be asked what it is", cuda.cudaDeviceGetAttribute(name, 0))
        for name in (
            names.cudaDevAttrComputeCapabilityMajor,
            names.cudaDevAttrComputeCapabilityMinor,
        )
    )
    return int(major), int(minor)


def gpu_name() -> str:
    """The GPU's, and the CUDA of its driver: "NVIDIA H200, CUDA 13.0"."""
    cuda = _runtime()
    what = "the GPU cannot be asked what it is"
    name = _checked(what, cuda.cudaGetDeviceProperties(0)).name.decode()
    number = _checked(what, cuda.cudaDriverGetVersion())
    return f"{name}, CUDA {number // 1000}.{number % 1000 // 10}"


def processors() -> int:
    """Multiprocessors of the GPU."""
    cuda = _runtime()
    name = cuda.cudaDeviceAttr.cudaDevAttrMultiProcessorCount
    found = cuda.cudaDeviceGetAttribute(name, 0)
    return int(_checked("the GPU cannot be asked what it is", found))


def bytes_in_use() -> int:
    """Memory of the GPU that is taken, by whomever."""
    free, total = _checked_all(
        "the GPU cannot be asked for its memory", _runtime().cudaMemGetInfo()
    )
    return int(total) - int(free)


def freed_with(owner: object, free: Callable[[Any], Any], handle: Any) -> Callable[[], Any]:
    """Frees `handle` when called, or when `owner` goes; at exit the driver frees everything."""
    finalizer = weakref.finalize(owner, free, handle)
    finalizer.atexit = False
    return finalizer


class DeviceBuffer:
    """Memory on the GPU, freed with this object or by `close`.

    Attributes:
        address: a device pointer.
        nbytes: as asked for.
    """

    def __init__(self, nbytes: int) -> None:
        cuda = _runtime()
        what = f"{nbytes / 1e6:.0f} MB on the GPU"
        # an empty tensor has an address too
        self.address = int(_checked(what, cuda.cudaMalloc(max(nbytes, 1))))
        self.nbytes = nbytes
        self._free = freed_with(self, cuda.cudaFree, self.address)

    def close(self) -> None:
        self._free()


class Stream:
    """A queue of work on the GPU: what is put in runs in order, and `wait` returns after it."""

    def __init__(self) -> None:
        cuda = _runtime()
        handle = _checked(
            "a CUDA stream cannot be made",
            cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking),
        )
        self.handle = int(handle)
        self._destroy = freed_with(self, cuda.cudaStreamDestroy, self.handle)

    def upload(self, array: Array, buffer: DeviceBuffer, offset: int = 0) -> None:
        """Copy a contiguous array to `offset` bytes into the buffer.

        It may be changed when `wait` has returned.
        """
        kind = _runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(buffer.address + offset, array.ctypes.data, array.nbytes, kind)

    def download(self, buffer: DeviceBuffer | DeviceTensor, array: Array) -> None:
        """Copy into a contiguous array; it is filled when `wait` has returned."""
        kind = _runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, buffer.address, array.nbytes, kind)

    def zero(self, address: int, nbytes: int) -> None:
        """Make so many bytes of device memory zeros."""
        result = _runtime().cudaMemsetAsync(address, 0, nbytes, self.handle)
        _checked("memory of the GPU cannot be set", result)

    def wait(self) -> None:
        _checked("the GPU failed", _runtime().cudaStreamSynchronize(self.handle))

    def close(self) -> None:
        self._destroy()

    def _copy(self, to: int, of: int, nbytes: int, kind: Any) -> None:
        if nbytes:
            result = _runtime().cudaMemcpyAsync(to, of, nbytes, kind, self.handle)
            _checked("a copy to or from the GPU failed", result)


class CapturedStep:
    """The kernels that a call enqueues, recorded once and launched as one (a CUDA graph).

    The addresses that it reads and writes are recorded too: other ones need another capture.
    """

    def __init__(self, stream: Stream, enqueue: Callable[[], None]) -> None:
        """Record `enqueue`, which must only enqueue work on `stream`.

        Raises:
            EngineError: something in it cannot be captured; the stream is as before.
        """
        cuda = _runtime()
        what = "the step cannot be captured as a CUDA graph"
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _checked(what, cuda.cudaStreamBeginCapture(stream.handle, mode))
        try:
            enqueue()
        except BaseException:
            # a capture that failed must be ended all the same, and its error be forgotten
            broken = cuda.cudaStreamEndCapture(stream.handle)[1:]
            if broken and broken[0] is not None and int(broken[0]):
                cuda.cudaGraphDestroy(broken[0])
            cuda.cudaGetLastError()
            raise
        try:
            graph = _checked(what, cuda.cudaStreamEndCapture(stream.handle))
            try:
                self._graph = _checked(what, cuda.cudaGraphInstantiate(graph, 0))
            finally:
                cuda.cudaGraphDestroy(graph)
        except EngineError:
            cuda.cudaGetLastError()
            raise
        self._stream = stream
        self._destroy = freed_with(self, cuda.cudaGraphExecDestroy, self._graph)

    def launch(self) -> None:
        """Enqueue all of it on its stream."""
        result = _runtime().cudaGraphLaunch(self._graph, self._stream.handle)
        _checked("a captured step cannot be launched", result)

    def close(self) -> None:
        self._destroy()

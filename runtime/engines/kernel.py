"""Compiled kernels that a bundle carries, loaded and launched through CUDA's driver."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from a2edit.runtime.engines.cuda import Stream, bindings, freed_with
from a2edit.runtime.errors import DeviceMemoryError, EngineError

# What a kernel is called with: a value and its type.
Argument: TypeAlias = tuple[int | float, Any]


def _driver() -> Any:
    return bindings("driver")


def _checked(what: str, result: tuple[Any, ...]) -> Any:
    """The result of a call of the driver; raises DeviceMemoryError or EngineError."""
    error, *values = result
    cuda = _driver()
    if error == cuda.CUresult.CUDA_SUCCESS:
        return values[0] if values else None
    if error == cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
        raise DeviceMemoryError(f"{what}: the GPU's memory is full; close what else uses it")
    text = cuda.cuGetErrorString(error)[1]
    reason = text.decode() if isinstance(text, bytes) else str(text)
    raise EngineError(f"{what}: CUDA says: {reason}")


def pointer(address: int) -> Argument:
    return address, ctypes.c_void_p


def int32(value: int) -> Argument:
    return value, ctypes.c_int32


def float32(value: float) -> Argument:
    return value, ctypes.c_float


class CompiledKernel:
    """A function of a cubin, in a driver's library of its own that goes with this object.

    Args:
        path: the cubin.
        symbol: the function's name in it.
        threads: of a block.
        shared: bytes of dynamic shared memory that a block takes.

    Attributes:
        resident: blocks that one multiprocessor of this GPU holds at a time.

    Raises:
        TargetError: no driver.
        EngineError: the file cannot be read, is no cubin for this GPU, or has no such function.
    """

    def __init__(self, path: Path, symbol: str, threads: int, shared: int) -> None:
        cuda = _driver()
        what = (
            f"kernel {str(path)!r} cannot be loaded; it may want a newer driver, or the bundle was "
            "built for another GPU"
        )
        self._threads, self._shared = threads, shared
        try:
            image = path.read_bytes()
        except OSError as error:
            raise EngineError(f"{what}: {error.strerror}") from None
        library = _checked(what, cuda.cuLibraryLoadData(image, [], [], 0, [], [], 0))
        self._unload = freed_with(self, cuda.cuLibraryUnload, library)
        kernel = _checked(what, cuda.cuLibraryGetKernel(library, symbol.encode()))
        self._what = f"kernel {symbol!r} cannot be launched"
        # a library's kernel stands for itself wherever a function is asked for
        self._function = cuda.CUfunction(int(kernel))
        found = cuda.cuOccupancyMaxActiveBlocksPerMultiprocessor(self._function, threads, shared)
        self.resident = int(_checked(what, found))

    def launch(self, stream: Stream, blocks: int, arguments: Sequence[Argument]) -> None:
        """Enqueue `blocks` blocks on `stream`; the arguments are copied now."""
        values = tuple(value for value, _ in arguments)
        types = tuple(kind for _, kind in arguments)
        result = _driver().cuLaunchKernel(
            self._function,
            *(blocks, 1, 1),
            *(self._threads, 1, 1),
            self._shared,
            stream.handle,
            (values, types),
            0,
        )
        _checked(self._what, result)

    def close(self) -> None:
        self._unload()

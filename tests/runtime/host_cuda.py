"""CUDA played by plain memory: addresses are real, and a graph replays what it was captured with.

So a weight set that is bound and not looked at, a buffer that is freed too early, or a replay of an
old set gives wrong numbers.
"""

# ruff: noqa: N802, N815 # the names are CUDA's

import ctypes
import itertools
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

Work = Callable[[], object]
STREAM = 77


class Error(Enum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorStreamCaptureUnsupported = 900


class HostCuda:
    """The part of cuda.bindings.runtime that we call, over host memory."""

    cudaError_t = Error
    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    cudaDeviceAttr = SimpleNamespace(cudaDevAttrMultiProcessorCount="multiprocessors")

    def __init__(self, room: int = 10**6, multiprocessors: int = 0) -> None:
        self.room = room
        self.multiprocessors = multiprocessors
        self.blocks: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.uploads = 0
        self.launches = 0
        self.capture: list[Work] | None = None
        self.graphs: dict[int, list[Work]] = {}

    def enqueue(self, work: Work) -> None:
        if self.capture is None:
            work()
        else:
            self.capture.append(work)

    def cudaMalloc(self, nbytes: int) -> tuple[Any, ...]:
        if nbytes > self.room:
            return Error.cudaErrorMemoryAllocation, None
        block = ctypes.create_string_buffer(nbytes)
        self.blocks[ctypes.addressof(block)] = block
        self.room -= nbytes
        return Error.cudaSuccess, ctypes.addressof(block)

    def there(self, address: int) -> int:
        """Bytes of a block from `address` on."""
        start = address - self.place(address)
        return len(self.blocks[start]) - self.place(address)

    def place(self, address: int) -> int:
        """Bytes from a block's start; AssertionError for an address that is in none."""
        found = [at for at, it in self.blocks.items() if 0 <= address - at < len(it)]
        assert len(found) == 1, address
        return address - found[0]

    def cudaDeviceGetAttribute(self, name: str, _: int) -> tuple[Any, ...]:
        return Error.cudaSuccess, getattr(self, name)

    def cudaMemsetAsync(self, at: int, value: int, nbytes: int, _: int) -> tuple[Any, ...]:
        assert self.there(at) >= nbytes
        self.enqueue(lambda: ctypes.memset(at, value, nbytes))
        return (Error.cudaSuccess,)

    def cudaGetDeviceProperties(self, _: int) -> tuple[Any, ...]:
        return Error.cudaSuccess, SimpleNamespace(name=b"host memory")

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return Error.cudaSuccess, 13020

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return Error.cudaSuccess, self.room, 10**6

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        block = self.blocks.pop(address)
        self.room += len(block)
        ctypes.memset(block, 0xFF, len(block))  # NaN to whoever still reads it
        return (Error.cudaSuccess,)

    def cudaMemcpyAsync(self, to: int, of: int, nbytes: int, kind: int, _: int) -> tuple[Any, ...]:
        assert self.there(to if kind == 1 else of) >= nbytes
        self.uploads += kind == 1
        self.enqueue(lambda: ctypes.memmove(to, of, nbytes))
        return (Error.cudaSuccess,)

    def cudaStreamCreateWithFlags(self, _: int) -> tuple[Any, ...]:
        return Error.cudaSuccess, STREAM

    def cudaStreamSynchronize(self, _: int) -> tuple[Any, ...]:
        assert self.capture is None
        return (Error.cudaSuccess,)

    def cudaStreamBeginCapture(self, _: int, __: int) -> tuple[Any, ...]:
        self.capture = []
        return (Error.cudaSuccess,)

    def cudaStreamEndCapture(self, _: int) -> tuple[Any, ...]:
        graph = len(self.graphs) + 1
        self.graphs[graph] = self.capture or []
        self.capture = None
        return Error.cudaSuccess, graph

    def cudaGraphInstantiate(self, graph: int, _: int) -> tuple[Any, ...]:
        return Error.cudaSuccess, graph

    def cudaGraphLaunch(self, graph: int, _: int) -> tuple[Any, ...]:
        self.launches += 1
        for work in self.graphs[graph]:
            work()
        return (Error.cudaSuccess,)

    def cudaGetErrorString(self, error: Error) -> tuple[Any, ...]:
        return Error.cudaSuccess, error.name.encode()

    def cudaGetLastError(self) -> tuple[Any, ...]:
        return (Error.cudaSuccess,)

    def cudaGraphDestroy(self, _: int) -> tuple[Any, ...]:
        return (Error.cudaSuccess,)

    cudaGraphExecDestroy = cudaStreamDestroy = cudaGraphDestroy


class Result(Enum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209
    CUDA_ERROR_NOT_FOUND = 500


class HostDriver:
    """The part of cuda.bindings.driver that we call; `play` does a kernel's work.

    A library's image ends with its function's name. `play` is given the image, the blocks and the
    arguments of a launch.
    """

    CUresult = Result
    CUfunction = int

    def __init__(
        self, host: HostCuda, play: Callable[[bytes, int, tuple[Any, ...]], object]
    ) -> None:
        self.host = host
        self.play = play
        self.images: dict[int, bytes] = {}
        self.handles = itertools.count(1)
        self.launched: list[bytes] = []

    def cuLibraryLoadData(self, image: bytes, *_: object) -> tuple[Any, ...]:
        if not image:
            return Result.CUDA_ERROR_NO_BINARY_FOR_GPU, None
        handle = next(self.handles)
        self.images[handle] = image
        return Result.CUDA_SUCCESS, handle

    def cuLibraryGetKernel(self, library: int, symbol: bytes) -> tuple[Any, ...]:
        if not self.images[library].endswith(symbol):
            return Result.CUDA_ERROR_NOT_FOUND, None
        return Result.CUDA_SUCCESS, library

    def cuOccupancyMaxActiveBlocksPerMultiprocessor(
        self, function: int, threads: int, _: int
    ) -> tuple[Any, ...]:
        assert function in self.images
        return Result.CUDA_SUCCESS, 256 // threads

    def cuLibraryUnload(self, library: int) -> tuple[Any, ...]:
        del self.images[library]
        return (Result.CUDA_SUCCESS,)

    def cuLaunchKernel(self, function: int, *launch: Any) -> tuple[Any, ...]:
        blocks, *flat, threads, y, z, shared, stream, arguments, extra = launch
        assert (*flat, y, z, stream, extra) == (1, 1, 1, 1, STREAM, 0)
        assert threads % 32 == 0
        assert shared >= 0
        # what cuda-bindings itself makes of them
        pytest.importorskip("cuda.bindings.driver")._HelperKernelParams(arguments)
        values, kinds = arguments
        for value, kind in zip(values, kinds, strict=True):
            if kind is ctypes.c_void_p and value:
                assert self.host.place(value) % 16 == 0  # which compiled kernels count on
        image = self.images[function]
        self.launched.append(image)
        self.play(image, blocks, values)
        return (Result.CUDA_SUCCESS,)

    def cuGetErrorString(self, error: Result) -> tuple[Any, ...]:
        return Result.CUDA_SUCCESS, error.name.encode()

"""What every backend offers: one protocol, and the specs that its graphs are described by.

An engine is not thread-safe: one request at a time. It keeps the arrays that are bound to it
alive, and returns arrays that nothing writes to again.
"""

import mmap
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.errors import BundleError, EngineError

Array: TypeAlias = NDArray[Any]

OPEN = -1

DTYPES = (
    "float32",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "int8",
    "uint8",
    "int32",
    "int64",
    "bool",
)
# numpy has no such types: their bits travel in these
_BITS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8"}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A named tensor at the edge of a graph; -1 is a size that the graph leaves open."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise BundleError(
                f"tensor {self.name!r} has dtype {self.dtype!r}; known are {', '.join(DTYPES)}"
            )
        if any(size < OPEN for size in self.shape):
            raise BundleError(f"tensor {self.name!r} has shape {list(self.shape)}")

    @property
    def is_open(self) -> bool:
        """Whether it leaves a size open."""
        return OPEN in self.shape

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of that shape can be this one."""
        return len(shape) == len(self.shape) and all(
            own in (OPEN, given) for own, given in zip(self.shape, shape, strict=True)
        )

    @property
    def nbytes(self) -> int:
        """Of a tensor that leaves nothing open."""
        assert not self.is_open, self
        return self.nbytes_of(self.shape)

    def nbytes_of(self, shape: tuple[int, ...]) -> int:
        """With its open sizes chosen."""
        return prod(shape) * np.dtype(numpy_name(self.dtype)).itemsize

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """The edge of a graph.

    `weights` and `parameters` are inputs too, and not given at every run: weights are a route's,
    bound for as long as it runs; parameters are matrices that no route changes, fed once.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[TensorSpec, ...] = ()
    parameters: tuple[TensorSpec, ...] = ()

    @property
    def entrances(self) -> tuple[TensorSpec, ...]:
        """Everything that a backend knows as an input."""
        return self.inputs + self.weights + self.parameters


@dataclass(frozen=True, slots=True, eq=False)
class DeviceTensor:
    """A dense tensor in a GPU's memory, which engines read where it lies."""

    address: int  # a device pointer
    dtype: str  # of DTYPES
    shape: tuple[int, ...]
    owner: object  # has the memory, and keeps it for as long as it lives

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * np.dtype(numpy_name(self.dtype)).itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """For torch and others: of types that numpy lacks, the bits."""
        kind = np.dtype(numpy_name(self.dtype)).str
        return {"version": 3, "shape": self.shape, "typestr": kind, "data": (self.address, False)}


@dataclass(frozen=True, slots=True, eq=False)
class WeightSet:
    """Routed weights by input name. The arrays are writable and belong to the engine's memory
    for as long as they are bound: nobody changes them. A set that was merged on a GPU is `placed`
    there, and has no arrays.
    """

    name: str
    tensors: Mapping[str, Array]
    memory: mmap.mmap | None = None  # that the tensors lie in, if they are a mapped file
    placed: Mapping[str, DeviceTensor] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        arrays = sum(tensor.nbytes for tensor in self.tensors.values())
        return arrays + sum(tensor.nbytes for tensor in self.placed.values())

    def rest(self) -> None:
        """Leave a mapped set to the system's file cache, whence its pages come back when read.

        Eight routes then take no more of a process than one. A set that was merged stays: its
        bytes are nowhere else.
        """
        if self.memory is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED)


class Engine(Protocol):
    """A graph compiled for a device."""

    spec: GraphSpec

    def bind(self, weights: WeightSet) -> None:
        """Make `weights` the routed weights of the following runs, without a copy if possible."""
        ...

    def unbind(self) -> None:
        """Let go of the bound weights, so that their memory can be freed."""
        ...

    def run(self, inputs: Mapping[str, Array], unchanged: Collection[str] = ()) -> dict[str, Array]:
        """Compute every output from every input of `spec`; the results are fresh arrays.

        Inputs named in `unchanged` have the values of the last run: a device has them already.
        """
        ...

    def close(self) -> None:
        """Free the device's memory; the engine is of no use afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class CheckedEngine(ABC):
    """Public methods check, private ones work.

    A backend fills in `_bind` (of all that is not given at every run), `_unbind`, `_run`, `_close`.

    Attributes:
        spec: of the graph.
        workspace: bytes that it takes for what flows between its nodes; None: it does not say.
    """

    def __init__(self, spec: GraphSpec) -> None:
        self.spec = spec
        self._bound: WeightSet | None = None
        self._parameters: dict[str, Array] = {}
        self._open = True
        self._unchanged: frozenset[str] = frozenset()  # inputs that the last run had, too
        self.workspace: int | None = None

    @property
    def bound(self) -> str | None:
        """The name of the bound weight set."""
        return self._bound.name if self._bound else None

    def feed(self, parameters: Mapping[str, Array]) -> None:
        """Give the engine its parameters; once, before it runs. They are kept, and not copied."""
        self._check_open()
        where = f"the parameters of {self.spec.name!r}"
        found = {spec.name: _checked(spec, parameters, where) for spec in self.spec.parameters}
        self._bind(found)
        self._parameters = found

    def bind(self, weights: WeightSet) -> None:
        self._check_open()
        if weights is self._bound:
            return
        specs, where = self.spec.weights, weights.name
        placed = {
            spec.name: _found(spec, weights.placed, spec.dtype, where)
            for spec in specs
            if weights.placed
        }
        tensors = {
            spec.name: _checked(spec, weights.tensors, where) for spec in specs if not placed
        }
        self._bound = None
        try:
            if placed:
                self._bind_placed(self._parameters, placed)
            else:
                self._bind(self._parameters | tensors)
        except BaseException:
            self._unbind()  # part of the new weights may be in place beside the old
            raise
        self._bound = weights

    def unbind(self) -> None:
        """Let go of the bound weights, so that their memory can be freed; nothing if none are."""
        self._check_open()
        if self._bound is not None:
            self._bound = None
            self._unbind()

    def run(self, inputs: Mapping[str, Array], unchanged: Collection[str] = ()) -> dict[str, Array]:
        self._check_open()
        if self.spec.weights and self._bound is None:
            raise EngineError(f"graph {self.spec.name!r} runs on routed weights: bind a set first")
        if self.spec.parameters and not self._parameters:
            raise EngineError(f"graph {self.spec.name!r} takes its parameters as inputs: feed them")
        known = {spec.name for spec in self.spec.inputs}
        if unknown := sorted(inputs.keys() - known):
            raise EngineError(
                f"graph {self.spec.name!r} has no input {', '.join(unknown)}; "
                f"it has {', '.join(sorted(known))}"
            )
        where = f"the inputs of {self.spec.name!r}"
        self._unchanged = frozenset(unchanged)
        return self._run({spec.name: _checked(spec, inputs, where) for spec in self.spec.inputs})

    def close(self) -> None:
        if self._open:
            self._open = False
            self._bound = None
            self._parameters = {}
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._open:
            raise EngineError(f"graph {self.spec.name!r}: the engine is closed")

    @abstractmethod
    def _bind(self, tensors: Mapping[str, Array]) -> None: ...

    def _bind_placed(
        self,
        parameters: Mapping[str, Array],  # noqa: ARG002 # for engines that run on a GPU
        weights: Mapping[str, DeviceTensor],  # noqa: ARG002
    ) -> None:
        """As `_bind`, of weights that lie on the GPU."""
        raise EngineError(
            f"graph {self.spec.name!r} runs on the processor, and weights merged on a GPU were "
            "bound to it"
        )

    @abstractmethod
    def _unbind(self) -> None: ...

    @abstractmethod
    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...

    @abstractmethod
    def _close(self) -> None: ...


Tensor = TypeVar("Tensor", Array, DeviceTensor)


def _checked(spec: TensorSpec, tensors: Mapping[str, Array], where: str) -> Array:
    """The tensor of `spec`, contiguous and writable (backends take pointers), or EngineError."""
    array = _found(spec, tensors, np.dtype(numpy_name(spec.dtype)), where)
    return np.require(array, requirements=["C", "A", "W"])


def _found(spec: TensorSpec, tensors: Mapping[str, Tensor], dtype: object, where: str) -> Tensor:
    tensor = tensors.get(spec.name)
    if tensor is None:
        raise EngineError(f"{where}: {spec} is missing; there are {', '.join(sorted(tensors))}")
    if not spec.takes(tensor.shape) or tensor.dtype != dtype:
        raise EngineError(f"{where}: expected {spec}, got {tensor.dtype}{list(tensor.shape)}")
    return tensor


def numpy_name(dtype: str) -> str:
    return _BITS.get(dtype, dtype)

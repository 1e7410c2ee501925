"""AOTInductor, on the processor or an NVIDIA GPU: the one engine that runs on torch.

torch is imported when the first engine is opened, and nowhere else in the runtime.
"""

import json
import logging
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from a2edit.runtime.engines.base import (
    Array,
    CheckedEngine,
    DeviceTensor,
    GraphSpec,
    TensorSpec,
)
from a2edit.runtime.engines.copies import DeviceCopies
from a2edit.runtime.errors import A2EditError, DeviceMemoryError, EngineError, TargetError

# The package's own description, beside what AOTInductor writes there: a JSON text (`Package`).
DESCRIPTION = "a2edit"
_METADATA = ".wrapper_metadata.json"

log = logging.getLogger(__name__)


def torch_module() -> Any:
    """torch; raises TargetError where it is not installed."""
    try:
        import torch
    except ImportError:
        raise TargetError(
            "the engine 'inductor' needs torch: pip install 'a2edit[inductor]', or use the engine "
            "of another bundle"
        ) from None
    return torch


def backend_version() -> str:
    """The version that a package must have been compiled by to be loaded."""
    return str(torch_module().__version__)


@dataclass(frozen=True, slots=True)
class Package:
    """What a .pt2 file says of itself.

    Attributes:
        device: "cpu" or "cuda".
        needs: instructions of the processor that it was compiled on; a GPU's has none.
        inputs: everything that it takes, in order, in the types that it takes it in.
        outputs: in order.
        parameters: of the inputs, those that come from the bundle's shared files, as stored there.
    """

    device: str
    needs: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, text: str) -> "Package":
        """What the compiler described as JSON: this class's fields by name."""
        found = json.loads(text)
        specs = {
            kind: tuple(
                TensorSpec(part["name"], part["dtype"], tuple(part["shape"]))
                for part in found[kind]
            )
            for kind in ("inputs", "outputs", "parameters")
        }
        return cls(device=found["device"], needs=tuple(found["needs"]), **specs)

    @classmethod
    def read(cls, path: Path) -> "Package":
        """Of a file; nothing in it is loaded or run. EngineError where it is no sound package."""
        try:
            with zipfile.ZipFile(path) as file:
                (name,) = (name for name in file.namelist() if name.endswith(_METADATA))
                return cls.of(json.loads(file.read(name))[DESCRIPTION])
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise EngineError(
                f"engine {str(path)!r} is no sound AOTInductor package ({error}): build the bundle "
                "again"
            ) from None


class InductorEngine(CheckedEngine):
    """One loaded package.

    On the processor it reads the caller's arrays where they lie. On a GPU inputs are copied when
    they change, once the step is replayed as a CUDA graph, which it is from the second run after a
    bind on while inputs keep their shapes; weight sets once, for as long as their arrays live.

    Parameters that the package takes in another type than the bundle stores are converted when
    they are fed, once.
    """

    def __init__(self, spec: GraphSpec, package: Package, run: Callable[[list[Any]], Any]) -> None:
        """`run` takes tensors in the order of the package's inputs and gives its outputs."""
        super().__init__(replace(spec, parameters=package.parameters))
        _check_edge(self.spec, package)
        self._torch = torch_module()
        self._package = package
        self._call: Callable[[list[Any]], Any] | None = run
        self._types = {part.name: part.dtype for part in package.inputs}
        self._held: dict[str, Any] = {}  # weights and parameters, as tensors on the device
        self._copies: DeviceCopies[Any] = DeviceCopies(self._uploaded)
        self._names: dict[int, str] = {}
        self._step: _CapturedRun | None = None
        self._ran = False  # since the last bind
        self._capturable = package.device == "cuda"

    def _bind(self, tensors: Mapping[str, Array]) -> None:
        self._forget_step()
        if self._package.device == "cpu":
            self._held = {name: self._taken(name, array) for name, array in tensors.items()}
            return
        self._held.clear()
        self._names = {id(array): name for name, array in tensors.items()}
        self._held = self._copies.of(tensors)

    def _bind_placed(
        self, parameters: Mapping[str, Array], weights: Mapping[str, DeviceTensor]
    ) -> None:
        if self._package.device == "cpu":
            super()._bind_placed(parameters, weights)
        self._bind(parameters)
        try:
            for name, tensor in weights.items():
                # the tensor keeps what it was made of, and so the memory
                bits = self._torch.as_tensor(tensor, device=self._package.device)
                self._held[name] = bits.view(getattr(self._torch, self._types[name]))
        except RuntimeError as error:
            what = f"graph {self.spec.name!r}: weights that lie on the GPU cannot be taken"
            raise _failure(what, error) from error

    def _unbind(self) -> None:
        self._forget_step()
        kept = {part.name for part in self.spec.parameters}
        self._held = {name: tensor for name, tensor in self._held.items() if name in kept}

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = {name: self._tensor(name, array) for name, array in inputs.items()}
        try:
            with self._torch.inference_mode():
                found = self._computed(given)
                return {
                    part.name: self._array(tensor)
                    for part, tensor in zip(self.spec.outputs, found, strict=True)
                }
        except RuntimeError as error:
            raise _failure(f"graph {self.spec.name!r} failed to run", error) from error

    def _close(self) -> None:
        self._forget_step()
        self._copies.clear()
        self._held.clear()
        self._call = None

    def _computed(self, given: Mapping[str, Any]) -> list[Any]:
        """The outputs, on the device."""
        assert self._call is not None
        if self._package.device == "cpu":
            return list(self._call(self._ordered(given)))
        if self._step is None or not self._step.takes(given):
            self._step = None
            on_device = {name: tensor.cuda() for name, tensor in given.items()}
            if not (self._ran and self._capturable):
                self._ran = True
                return list(self._call(self._ordered(on_device)))
            self._step = self._captured(on_device)
            if self._step is None:
                return list(self._call(self._ordered(on_device)))
            return self._step.replay(given)
        return self._step.replay(
            {name: it for name, it in given.items() if name not in self._unchanged}
        )

    def _captured(self, inputs: dict[str, Any]) -> "_CapturedRun | None":
        call = self._call
        assert call is not None
        try:
            return _CapturedRun(self._torch, inputs, lambda: list(call(self._ordered(inputs))))
        except RuntimeError as error:
            self._capturable = False
            log.warning("graph %r runs without a CUDA graph: %s", self.spec.name, error)
            return None

    def _ordered(self, given: Mapping[str, Any]) -> list[Any]:
        return [
            given[part.name] if part.name in given else self._held[part.name]
            for part in self._package.inputs
        ]

    def _forget_step(self) -> None:
        self._step, self._ran = None, False

    def _tensor(self, name: str, array: Array) -> Any:
        """A tensor over the array's memory, of the type that its bits are of."""
        stored = next(part.dtype for part in self.spec.entrances if part.name == name)
        tensor, wanted = self._torch.from_numpy(array), getattr(self._torch, stored)
        return tensor if tensor.dtype == wanted else tensor.view(wanted)

    def _taken(self, name: str, array: Array) -> Any:
        return self._tensor(name, array).to(getattr(self._torch, self._types[name]))

    def _uploaded(self, array: Array) -> Any:
        try:
            return self._taken(self._names[id(array)], array).cuda()
        except RuntimeError as error:
            what = f"graph {self.spec.name!r}: its weights cannot be copied to the GPU"
            raise _failure(what, error) from error

    def _array(self, tensor: Any) -> Array:
        """The tensor's values, or bits; a copy of what the next replay would overwrite."""
        host = tensor.cpu()
        if host.dtype == self._torch.bfloat16:
            host = host.view(self._torch.uint16)
        array: Array = host.numpy()
        return array


class _CapturedRun:
    """A run recorded as a CUDA graph: it reads and writes the same memory at every replay."""

    def __init__(self, torch: Any, inputs: dict[str, Any], run: Callable[[], list[Any]]) -> None:
        """Record `run`, which reads `inputs`; raises RuntimeError where it cannot be captured."""
        self._inputs = inputs
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = run()

    def takes(self, given: Mapping[str, Any]) -> bool:
        return all(self._inputs[name].shape == tensor.shape for name, tensor in given.items())

    def replay(self, given: Mapping[str, Any]) -> list[Any]:
        """The outputs, which are overwritten by the next replay."""
        for name, tensor in given.items():
            self._inputs[name].copy_(tensor)
        self._graph.replay()
        return self._outputs


def engine_from_blob(spec: GraphSpec, path: Path, precision: str) -> InductorEngine:
    """Load a package; the caller has checked that the version of torch is its own.

    Args:
        spec: of the graph; its parameters become those that the package takes.
        path: the .pt2 file.
        precision: that it was built for; it computes in the types that it was compiled with.

    Raises:
        TargetError: no torch, no GPU, or a processor that lacks instructions it was compiled to.
        DeviceMemoryError: it does not fit.
        EngineError: it is damaged, or its edge is not that of `spec`.
    """
    package = Package.read(path)
    torch = torch_module()
    _check_device(torch, package, path, precision)
    try:
        from torch._inductor import aoti_load_package

        # one run at a time is what an engine promises, and what a CUDA graph can capture
        model = aoti_load_package(str(path), run_single_threaded=True)
    except RuntimeError as error:
        raise _failure(f"engine {str(path)!r} could not be loaded", error) from error
    return InductorEngine(spec, package, model.loader.run)


def _check_device(torch: Any, package: Package, path: Path, precision: str) -> None:
    """Raises TargetError where this machine cannot run the package."""
    if package.device == "cuda":
        if not torch.cuda.is_available():
            raise TargetError(
                f"engine {str(path)!r} computes in {precision} on an NVIDIA GPU, and torch "
                f"{torch.__version__} finds none: install a torch for CUDA and the GPU's driver"
            )
        return
    lacking = sorted(set(package.needs) - set(instructions()))
    if lacking:
        raise TargetError(
            f"engine {str(path)!r} was compiled to instructions that this processor lacks "
            f"({', '.join(lacking)}): build the bundle on this machine"
        )


def instructions() -> tuple[str, ...]:
    """Sets of instructions that this processor has, by torch's names, sorted."""
    found = torch_module().cpu.get_capabilities()
    return tuple(sorted(name for name, has in found.items() if has is True))


def _check_edge(spec: GraphSpec, package: Package) -> None:
    """Raises EngineError where the package's tensors are not those of `spec`."""
    wanted = spec.inputs + spec.weights
    found = package.inputs[: len(wanted)]
    names = [part.name for part in package.inputs[len(wanted) :]]
    if (found, package.outputs) != (wanted, spec.outputs):
        pairs = zip(found + package.outputs, wanted + spec.outputs, strict=False)
        has, wants = next(((has, it) for has, it in pairs if has != it), ("less", "more"))
        raise EngineError(
            f"graph {spec.name!r}: the engine has {has} where the graph has {wants}; "
            "build the bundle again"
        )
    if names != [part.name for part in package.parameters]:
        raise EngineError(
            f"graph {spec.name!r}: the engine asks for {', '.join(names)}, and says of "
            f"{', '.join(part.name for part in package.parameters)} where they are; build the "
            "bundle again"
        )


def _failure(what: str, error: Exception) -> A2EditError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0] if lines else type(error).__name__
    if "out of memory" in reason.lower() or "can't allocate memory" in reason.lower():
        return DeviceMemoryError(
            f"{what}: out of memory; close what else uses it, or build with --preset small"
        )
    return EngineError(f"{what}: {reason}")

"""A fake for tests and tools: computes by a function of yours, and remembers every call."""

from collections.abc import Callable, Mapping

import numpy as np

from a2edit.runtime.engines.base import Array, CheckedEngine, GraphSpec

Compute = Callable[[Mapping[str, Array], Mapping[str, Array]], dict[str, Array]]


class RecordingEngine(CheckedEngine):
    """`compute(inputs, bound weights)` gives the outputs.

    `runs` holds a copy of every run's inputs, `binds` the name of every bound weight set: a
    fake that only returned what a test expects would prove nothing.
    """

    def __init__(self, spec: GraphSpec, compute: Compute) -> None:
        super().__init__(spec)
        self.runs: list[dict[str, Array]] = []
        self.binds: list[str] = []
        self._compute = compute
        self._weights: Mapping[str, Array] = {}

    def _bind(self, tensors: Mapping[str, Array]) -> None:
        self._weights = tensors

    def _unbind(self) -> None:
        self._weights = {}

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.runs.append({name: np.array(array) for name, array in inputs.items()})
        self.binds.append(self._bound.name if self._bound else "")
        return self._compute(inputs, self._weights)

    def _close(self) -> None:
        self._weights = {}

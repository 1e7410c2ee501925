"""An editor whose engine calls are timed: the rest of an edit is the host's own work."""

import os
import time
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines.base import Array, Engine, WeightSet
from a2edit.runtime.engines.pool import EnginePool


class TimedEngine:
    """The inner engine, with the seconds of every `run` appended to `spent`."""

    def __init__(self, inner: Engine, spent: list[float]) -> None:
        self.inner = inner
        self.spec = inner.spec
        self.spent = spent

    def bind(self, weights: WeightSet) -> None:
        self.inner.bind(weights)

    def unbind(self) -> None:
        self.inner.unbind()

    def run(self, inputs: Mapping[str, Array], unchanged: Collection[str] = ()) -> dict[str, Array]:
        start = time.perf_counter()
        outputs = self.inner.run(inputs, unchanged)
        self.spent.append(time.perf_counter() - start)
        return outputs

    def close(self) -> None:
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class TimedPool(EnginePool):
    """A pool that hands out timed engines; `spent` grows by every engine call's seconds."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.spent: list[float] = []
        self._timed: dict[str, TimedEngine] = {}

    def get(self, name: str) -> Engine:
        if name not in self._timed:
            self._timed[name] = TimedEngine(super().get(name), self.spent)
        return self._timed[name]


def open_timed(folder: str | os.PathLike[str]) -> tuple[Editor, TimedPool]:
    """An editor on a bundle, and the pool that its engine calls are counted by."""
    bundle = open_bundle(folder)
    pool = TimedPool(bundle)
    return Editor(bundle, pool), pool

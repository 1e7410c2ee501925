"""What is scored: a bundle's engines, or a checkpoint through the torch reference.

Both also say what the model painted before it was pasted back, so that the background can be
judged raw: composed, it is perfect by construction.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from a2edit.bench.quality.subject import Task
from a2edit.bench.timed import TimedEngine
from a2edit.export.pixels import Bools, Pixels
from a2edit.runtime.boxes import Box
from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines.base import Array, Engine
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.layout import resize_picture
from a2edit.runtime.request import EditResult

DECODER = "vae_decoder"


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """One task's answer: u8 [H,W,3] as the user gets it, and as the model painted it."""

    task: Task
    picture: Pixels
    raw: Pixels | None = None  # the scene with the model's whole window in it
    seen: Bools | None = None  # the window's pixels, [H,W]
    seconds: float = 0.0
    active: float = 0.0  # experts a block, mean


class Side(Protocol):
    """Something that answers tasks; `steps` is how many it takes where none are asked for."""

    name: str
    steps: int

    def paint(self, task: Task, steps: int | None = None, seed: int = 0) -> Painted: ...


class _Recording(TimedEngine):
    """An engine whose last outputs are kept."""

    last: dict[str, Array] | None = None

    def run(self, inputs: Mapping[str, Array], unchanged: Collection[str] = ()) -> dict[str, Array]:
        self.last = super().run(inputs, unchanged)
        return self.last


class _RecordingPool(EnginePool):
    """A pool whose decoder is recorded."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.decoder: _Recording | None = None

    def get(self, name: str) -> Engine:
        if name != DECODER:
            return super().get(name)
        if self.decoder is None:
            self.decoder = _Recording(super().get(name), [])
        return self.decoder


class BundleSide:
    """A bundle's engines; closes them when left."""

    def __init__(self, folder: Path) -> None:
        bundle = open_bundle(folder)
        self._pool = _RecordingPool(bundle)
        self._editor = Editor(bundle, self._pool)
        self.name, self.steps = bundle.manifest.name, bundle.manifest.sampler.steps

    def paint(self, task: Task, steps: int | None = None, seed: int = 0) -> Painted:
        start = time.perf_counter()
        result = self._editor.edit(task.request(steps, seed))
        seconds = time.perf_counter() - start
        decoder = self._pool.decoder
        generated = decoder.last["pixels"][0] if decoder and decoder.last else None
        return painted(task, result, generated, seconds)

    def __enter__(self) -> Self:
        self._editor.open_engines()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._editor.close()


class CheckpointSide:
    """A checkpoint through the torch reference: no build, so a training run can be watched."""

    def __init__(self, model: str) -> None:
        from a2edit.model.checkpoint import Checkpoint, find_checkpoint
        from a2edit.model.pipeline import A2EditPipeline

        folder = find_checkpoint(model)
        checkpoint = Checkpoint.load(folder)
        self._pipeline = A2EditPipeline(checkpoint)
        self.name, self.steps = folder.name, checkpoint.config.steps
        self._generated: Pixels | None = None
        self._pipeline.graphs[DECODER].register_forward_hook(
            lambda _module, _inputs, output: self._keep(output)
        )

    def paint(self, task: Task, steps: int | None = None, seed: int = 0) -> Painted:
        start = time.perf_counter()
        result = self._pipeline.edit(task.request(steps, seed))
        return painted(task, result, self._generated, time.perf_counter() - start)

    def _keep(self, output: Any) -> None:
        self._generated = output[0].cpu().numpy()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._generated = None


def painted(task: Task, result: EditResult, generated: Array | None, seconds: float) -> Painted:
    """An edit's result, and with the decoder's u8 [S,S,3] what the model painted."""
    weights = result.gate_weights
    answer = Painted(
        task=task,
        picture=np.asarray(result.image.convert("RGB")),
        seconds=seconds,
        active=float((weights > 0).sum(axis=1).mean()) if weights.size else 0.0,
    )
    if generated is None:
        return answer
    scene = np.asarray(task.subject.scene)
    raw, seen = uncomposed(scene, np.asarray(generated, np.uint8), result.window)
    return Painted(task, answer.picture, raw, seen, seconds, answer.active)


def uncomposed(scene: Pixels, generated: Pixels, window: Box) -> tuple[Pixels, Bools]:
    """The scene with the whole generated window in it, and which pixels are the window's."""
    height, width = scene.shape[:2]
    part = window.clipped(width, height)
    local = Box(part.x0 - window.x0, part.y0 - window.y0, part.x1 - window.x0, part.y1 - window.y0)
    raw, seen = scene.copy(), np.zeros((height, width), bool)
    raw[part.slices] = resize_picture(generated, window.width, window.height)[local.slices]
    seen[part.slices] = True
    return raw, seen

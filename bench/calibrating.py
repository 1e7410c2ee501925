"""What running a full-size model takes in calibration and verification, its weights in their files.

What a process needs for itself (anonymous memory) and pages of the files (which the system takes
back when it needs the room) are told apart: Linux keeps a peak of their sum alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from a2edit.runtime.memory import status_mb

if TYPE_CHECKING:
    from torch import Tensor

    from a2edit.model.graphs import GraphModule
    from a2edit.model.weightless import Shapes

# At most, of the whole model: seconds go with tokens, and what layers weigh does not.
SIZE, TEXT, REFERENCE = 128, 64, 8  # pixels, ids, patches a side
OWN, FILES = "RssAnon", "RssFile"
_EVERY = 0.02  # seconds


@dataclass(slots=True)
class Peaks:
    """The largest memory, in MB, while a block runs, and its seconds."""

    seconds: float = 0.0
    most: dict[str, float] = field(default_factory=lambda: {OWN: 0.0, FILES: 0.0})

    def look(self) -> None:
        for kind in self.most:
            self.most[kind] = max(self.most[kind], status_mb(kind) or 0.0)


@contextmanager
def peaks() -> Iterator[Peaks]:
    """Watch the memory of this process from a thread."""
    found, over = Peaks(), threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY):
            found.look()

    watcher = threading.Thread(target=watch, daemon=True)
    found.look()
    start = time.perf_counter()
    watcher.start()
    try:
        yield found
    finally:
        found.seconds = time.perf_counter() - start
        over.set()
        watcher.join()
        found.look()


def smaller(shapes: Shapes) -> Shapes:
    """The same model with few tokens and one step: but SigLIP's positions, no weight changes."""
    mot, vision = shapes.mot, shapes.image_encoder
    side = min(int(vision["image_size"]), REFERENCE * int(vision["patch_size"]))
    size, text = min(mot.size, SIZE), min(mot.text_length, TEXT)
    return replace(
        shapes,
        mot=replace(mot, size=size, text_length=text, steps=1),
        image_encoder={**vision, "image_size": side},
    )


def shallow(shapes: Shapes) -> Shapes:
    """The same model with one layer of each kind, at its own size: its activations are as large."""
    one = {"num_layers": 1}
    return replace(
        shapes,
        mot=replace(shapes.mot, steps=1),
        transformer={**shapes.transformer, **one, "num_single_layers": 1},
        text_encoder={**shapes.text_encoder, **one},
        image_encoder={**shapes.image_encoder, "num_hidden_layers": 1},
    )


def run_steps(folder: Path) -> Iterator[tuple[str, Peaks]]:
    """What calibration and verification do with the checkpoint in `folder`, at one noise level.

    Yields:
        (what was done, what it took): opening, the encoders, a traced forward with experts
        unmerged, one whose inputs are counted, one with every routed linear in INT8, decoding.
    """
    import torch

    from a2edit.calibration.probe import VelocityProbe
    from a2edit.calibration.ranges import recorded
    from a2edit.calibration.samples import encode
    from a2edit.calibration.smoothing import InputRange
    from a2edit.calibration.tracing import trace
    from a2edit.export.source import Source

    source = Source(folder)
    with peaks() as opening:
        checkpoint, graphs, dit = source.checkpoint, source.graphs, source.dit
    yield "opening the model", opening
    with peaks() as encoding:
        (sample,) = encode(graphs, [("drawn", _request(graphs))])
    yield "encoders and gate", encoding
    with peaks() as tracing:
        trace(checkpoint, dit, [sample], deep=1, bins=1)
    yield "a traced forward", tracing
    with peaks() as counting, recorded(checkpoint) as spreads:
        probe = VelocityProbe(checkpoint, dit, sample, 0, {0})
    yield "a forward with its inputs counted", counting
    ranges = {
        name: InputRange("int8", spread.peaks.clamp_min(1e-4) ** 0.5, float(spread.peaks.max()))
        for name, spread in spreads.items()
    }
    with peaks() as quantising:
        probe.error(ranges, {0})
    yield "a forward with every routed linear in INT8", quantising
    with peaks() as decoding, torch.no_grad():
        graphs["vae_decoder"](*graphs["vae_decoder"].example_inputs())
    yield "decoding", decoding


def _request(graphs: dict[str, GraphModule]) -> dict[str, Tensor]:
    """A request of random pixels and ids."""
    known: dict[str, Tensor] = {}
    for name in ("vae_encoder", "text_encoder", "pooled_encoder", "image_encoder"):
        graph = graphs[name]
        known |= dict(zip(graph.input_names, graph.example_inputs(), strict=True))
    return known

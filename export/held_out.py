"""What the torch model makes of held-out requests: kept as files, so that no engine needs torch.

The requests are the first of the calibration set; activation ranges are chosen on others. Experts
run unmerged at a route's table, in fp32, so that merging and quantising are part of an engine's
error. A bundle carries these files: it can be verified wherever its engines run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from a2edit.calibration.policy import DECODER
from a2edit.export.pixels import Pixels
from a2edit.export.source import DIT, MODULATION
from a2edit.export.steps.calibrate import VERIFY_SAMPLES, read_samples
from a2edit.runtime.engines.base import Array
from a2edit.runtime.sampler import sigmas

if TYPE_CHECKING:
    from torch import Tensor

    from a2edit.calibration.samples import EncodedSample
    from a2edit.export.source import Source
    from a2edit.model.checkpoint import Checkpoint
    from a2edit.model.graphs import GraphModule

SAMPLES_FILE, TRUTH_FILE, EXAMPLES_FILE = (
    f"{name}.safetensors" for name in ("samples", "truth", "examples")
)
# Where a bundle has them.
BUNDLED_SAMPLES, BUNDLED_EXAMPLES = f"verification/{SAMPLES_FILE}", f"verification/{EXAMPLES_FILE}"
_PICTURES = ("canvas", "mask", "reference")


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """One request, batch 1.

    Attributes:
        category: of the scene.
        table: what its gate asks for: fp32 [L, N].
        feeds: inputs of the denoiser that stay the same in every step, fp32.
        canvas, mask, reference: u8 [H,Wc,3], [H,Wc], [R,R,3] as the encoders take them.
    """

    category: str
    table: NDArray[np.float32]
    feeds: Mapping[str, Array]
    canvas: Pixels
    mask: Pixels
    reference: Pixels

    def encoded(self) -> EncodedSample:
        """As torch takes it."""
        import torch

        from a2edit.calibration.samples import EncodedSample

        feeds = {name: torch.from_numpy(array) for name, array in self.feeds.items()}
        return EncodedSample(self.category, feeds, self.table)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What the torch model makes of one request at one table.

    Attributes:
        levels: noise levels fp32 [N + 1], from 1 to 0.
        points: step → (latents that the loop reaches, velocity there), fp32 [1, h, w, C]; at
            `compared_steps`. The latents at step 0 are the noise.
        pixels: decoded from the end of the loop: u8 [S,S,3].
    """

    levels: NDArray[np.float32]
    points: Mapping[int, tuple[Array, Array]]
    pixels: Pixels

    @property
    def noise(self) -> Array:
        return self.points[0][0]


def bundled_truth(route: str) -> str:
    """Where a bundle has the truth of a route."""
    return f"verification/truth/{route}.safetensors"


def compared_steps(steps: int) -> set[int]:
    """Steps at which velocities are compared: the loop's first, middle and last."""
    return {0, steps // 2, steps - 1}


def save_samples(
    folder: Path, source: Source, traces: Path, data: Path | None, sizes: Sequence[int] = ()
) -> None:
    """samples.safetensors: the first `VERIFY_SAMPLES` requests of a traced calibration set.

    And one of each working size that is not the checkpoint's own.
    """
    from a2edit.calibration.samples import calibration_requests, encode

    samples = read_samples(traces, VERIFY_SAMPLES)
    requests = list(calibration_requests(source.checkpoint, data, 0, len(samples)))
    for size in other_sizes(source, sizes):
        requests.append(drawn_at(source, data, size))
        samples += encode(source.graphs, requests[-1:])
    guidance = source.config.guidance
    tensors: dict[str, Array] = {}
    for place, (sample, (_, request)) in enumerate(zip(samples, requests, strict=True)):
        found = {f"feeds.{key}": it for key, it in feeds_of(sample, guidance).items()}
        found["table"] = sample.table
        found |= {
            name: request[key][0].numpy()
            for name, key in zip(_PICTURES, ("pixels", "mask", "reference"), strict=True)
        }
        tensors |= {f"{place}.{name}": np.ascontiguousarray(it) for name, it in found.items()}
    categories = json.dumps([sample.category for sample in samples])
    save_file(dict(sorted(tensors.items())), folder / SAMPLES_FILE, {"categories": categories})


def other_sizes(source: Source, sizes: Sequence[int]) -> list[int]:
    """Those that calibration does not run at."""
    return [size for size in sizes if size != source.config.size]


def drawn_at(source: Source, data: Path | None, size: int) -> tuple[str, dict[str, Tensor]]:
    """The first calibration request, at another working size."""
    from a2edit.calibration.samples import calibration_requests

    resized = replace(source.checkpoint, config=source.config.at(size))
    (request,) = calibration_requests(resized, data, 0, 1)
    return request


def read_held_out(file: Path) -> list[HeldOut]:
    """What `save_samples` wrote."""
    tensors = load_file(file)
    with safe_open(file, "numpy") as opened:
        categories = json.loads(opened.metadata()["categories"])
    samples = []
    for place, category in enumerate(categories):
        own = _under(tensors, f"{place}.")
        pictures = {name: own[name] for name in _PICTURES}
        samples.append(HeldOut(category, own["table"], _under(own, "feeds."), **pictures))
    return samples


def truth_of(
    checkpoint: Checkpoint,
    graphs: Mapping[str, GraphModule],
    sample: EncodedSample,
    seed: int,
    table: NDArray[np.float32],
) -> Truth:
    """The loop of a request in torch, from the noise of `seed`, experts unmerged at `table`."""
    import torch

    from a2edit.calibration.ranges import denoised
    from a2edit.model.graphs import DitGraph

    config, dit = checkpoint.config, graphs[DIT]
    assert isinstance(dit, DitGraph)
    levels = sample.levels(config.steps)
    compared, points = compared_steps(config.steps), {}
    loop = denoised(checkpoint, dit, sample, seed, table)
    for step, (inputs, velocity) in enumerate(loop):
        if step in compared:
            points[step] = inputs[0].numpy(), velocity.numpy()
    with torch.no_grad():
        latents = inputs[0] + float(levels[-1] - levels[-2]) * velocity
        pixels = graphs["vae_decoder"](latents)[0].numpy()
    return Truth(levels, points, pixels)


def feeds_of(sample: EncodedSample, guidance: float) -> dict[str, Array]:
    """What stays the same in every step of a request's loop."""
    feeds: dict[str, Array] = {key: tensor.numpy() for key, tensor in sample.feeds.items()}
    return feeds | {"guidance": np.array([guidance], np.float32)}


def save_truth(folder: Path, source: Source, samples: Path, table: NDArray[np.float32]) -> None:
    """truth.safetensors: the torch model's loops over the held-out requests at `table` [L, N].

    `samples` is the folder that `save_samples` wrote to.
    """
    tensors: dict[str, Array] = {}
    for place, sample in enumerate(read_held_out(samples / SAMPLES_FILE)):
        truth = truth_of(source.checkpoint, source.graphs, sample.encoded(), place, table)
        tensors[f"{place}.levels"] = truth.levels
        tensors[f"{place}.pixels"] = truth.pixels
        for step, (latents, velocity) in truth.points.items():
            tensors[f"{place}.{step}.latents"] = latents
            tensors[f"{place}.{step}.velocity"] = velocity
    kept = {name: np.ascontiguousarray(tensor) for name, tensor in sorted(tensors.items())}
    save_file(kept, folder / TRUTH_FILE)


def read_truth(file: Path) -> list[Truth]:
    """What `save_truth` wrote, one a request."""
    tensors, truths = load_file(file), []
    for place in range(sum(name.endswith(".pixels") for name in tensors)):
        own = _under(tensors, f"{place}.")
        levels = own["levels"]
        points = {
            step: (own[f"{step}.latents"], own[f"{step}.velocity"])
            for step in sorted(compared_steps(len(levels) - 1))
        }
        truths.append(Truth(levels, points, own["pixels"]))
    return truths


def save_examples(
    folder: Path, source: Source, data: Path | None, sizes: Sequence[int] = ()
) -> None:
    """examples.safetensors: inputs of graphs but the denoiser, and what torch makes of them.

    They are those of the first held-out request, and of the one of each other working size:
    encoders err several times as much on random tokens and noise, which no request has.
    """
    own = source.config.size
    tensors = {
        f"{size}.{name}": value
        for size in (own, *other_sizes(source, sizes))
        for name, value in _examples(source, data, size).items()
    }
    save_file(dict(sorted(tensors.items())), folder / EXAMPLES_FILE)


def _examples(source: Source, data: Path | None, size: int) -> dict[str, Array]:
    """By "<graph>.<tensor>", at a working size."""
    import torch

    from a2edit.calibration.samples import ENCODERS_AND_GATE

    _, known = drawn_at(source, data, size)
    tensors: dict[str, Array] = {}
    for name in (*ENCODERS_AND_GATE, MODULATION, DECODER):
        graph = source.graphs[name]
        if name == MODULATION:  # half way through the loop
            levels = sigmas(source.config.steps, math.prod(known["conditioning"].shape[1:3]))
            scalars = levels[source.config.steps // 2], source.config.guidance
            known |= zip(("sigma", "guidance"), (torch.tensor([it]) for it in scalars), strict=True)
        if name == DECODER:  # of the masked image
            channels = int(source.checkpoint.transformer.config.out_channels)
            known = {"latents": known["conditioning"][..., :channels].contiguous()}
        inputs = {key: known[key] for key in graph.input_names}
        with torch.no_grad():
            output = graph(*inputs.values())
        known = {**known, graph.output_names[0]: output}
        for key, value in {**inputs, graph.output_names[0]: output}.items():
            tensors[f"{name}.{key}"] = np.ascontiguousarray(value.numpy())
    return tensors


def read_examples(file: Path) -> dict[str, list[dict[str, Array]]]:
    """What `save_examples` wrote: graph → one a size: input or output → value."""
    found: dict[str, list[dict[str, Array]]] = {}
    tensors = load_file(file)
    for size in sorted({int(name.partition(".")[0]) for name in tensors}):
        own = _under(tensors, f"{size}.")
        for graph in sorted({name.partition(".")[0] for name in own}):
            found.setdefault(graph, []).append(_under(own, f"{graph}."))
    return found


def _under(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }

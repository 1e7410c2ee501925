"""Contact sheets of held-out cases, drawn as a run goes on."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import unmerged
from a2edit.model.graphs import make_graphs
from a2edit.runtime.errors import RequestError
from a2edit.runtime.sampler import noise, sigmas
from a2edit.training.data import Example, PairFactory
from a2edit.training.masks import MaskMix

_ROUGH = MaskMix(rough=1.0)
_CASES = 8


@torch.no_grad()
def draw_sheet(
    checkpoint: Checkpoint,
    factory: PairFactory,
    path: Path,
    *,
    experts: bool,
    steps: int | None = None,
) -> float:
    """Edit one held-out case a category and save rows of (input, reference, edit, truth).

    Returns:
        mean in-mask PSNR in dB against the truth.
    """
    config = checkpoint.config
    device = next(checkpoint.transformer.parameters()).device
    examples = _cases(factory)
    batch = factory.batch(examples).to(device)
    graphs = make_graphs(checkpoint)
    graphs["dit"].to(device)
    conditioning = graphs["vae_encoder"](batch.canvas, batch.mask)
    text = graphs["text_encoder"](batch.text_ids)
    reference = graphs["image_encoder"](batch.reference)
    pooled = graphs["pooled_encoder"](batch.pooled_ids)
    weights = graphs["gate"](conditioning, reference, text)
    count = len(examples)
    shape = (*config.grid, int(checkpoint.transformer.config.out_channels))
    latents = torch.from_numpy(np.stack([noise(seed, shape) for seed in range(count)])).to(device)
    levels = torch.from_numpy(sigmas(steps or config.steps, config.image_tokens)).to(device)
    guidance = torch.full((count,), config.guidance, device=device)

    def denoise(latents: Tensor) -> Tensor:
        for now, after in itertools.pairwise(levels):
            latents = graphs["dit"](
                latents,
                conditioning,
                text,
                reference,
                graphs["modulation"](pooled, now.expand(count), guidance),
                (after - now).expand(count),
            )
        return latents

    injected = checkpoint.experts.weights is not None
    if injected:
        checkpoint.experts.weights = weights
        latents = denoise(latents)
    elif experts:
        with unmerged(checkpoint.transformer, checkpoint.experts, weights):
            latents = denoise(latents)
    else:
        latents = denoise(latents)
    edits = graphs["vae_decoder"](latents).cpu().numpy()
    rows, errors = [], []
    for example, edit in zip(examples, edits, strict=True):
        canvas, mask = example.arrays["canvas"], example.arrays["mask"][:, -config.size :]
        scene = example.sample.scene
        hole = mask >= 128
        shown = np.where(hole[..., None], 128, canvas[:, -config.size :])
        composed = np.where(hole[..., None], edit, scene)
        rows.append(np.concatenate([shown, example.sample.reference, composed, edit, scene], 1))
        difference = (composed.astype(float) - scene)[hole] / 255
        errors.append(10 * np.log10(1 / max(1e-9, float((difference**2).mean()))))
    half = (len(rows) + 1) // 2
    sheet = np.concatenate([np.concatenate(rows[:half], 0), np.concatenate(rows[half:], 0)], 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.astype(np.uint8)).save(path)
    return float(np.mean(errors))


def _cases(factory: PairFactory) -> list[Example]:
    """One held-out example a category; of data that hold none out, examples of training."""
    cases = []
    for place, category in enumerate(factory.source.categories[:_CASES]):
        with suppress(RequestError):
            cases.append(factory.example(place, _ROUGH, split="held_out", category=category))
    return cases or [factory.example(place, _ROUGH) for place in range(_CASES)]

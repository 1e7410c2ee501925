"""The readable reference: A²-Edit end to end in torch, experts unmerged, nothing compiled.

This is what every engine is compared with, and what the papers' code does: encode, ask the gate,
run every step with the active experts beside the base weights, decode. Reading pictures, cropping,
the schedule, the noise and pasting back are the runtime's, so that a difference between the two is
a difference between engine and model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import unmerged
from a2edit.model.graphs import make_graphs
from a2edit.runtime.compose import compose
from a2edit.runtime.prepare import Prepared, prepare
from a2edit.runtime.request import EditRequest, EditResult
from a2edit.runtime.sampler import noise, sigmas
from a2edit.runtime.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Encoded:
    """What stays the same over the steps; B = 1."""

    conditioning: Tensor  # [B, h, w, 320]
    text_tokens: Tensor  # [B, Lt, D]
    reference_tokens: Tensor  # [B, Lr, D]
    pooled: Tensor  # [B, P]


def model_spec(checkpoint: Checkpoint) -> ModelSpec:
    """A checkpoint's geometry in the runtime's words."""
    config, transformer = checkpoint.config, checkpoint.transformer.config
    latent = int(transformer.out_channels)
    return ModelSpec(
        layout=config.layout,
        reference_placement=config.reference_placement,
        size=config.size,
        sizes=(config.size,),
        batch=1,
        latent_channels=latent,
        conditioning_channels=int(transformer.in_channels) - latent,
        text_length=config.text_length,
        pooled_length=config.pooled_length,
        reference_size=checkpoint.reference_size,
        blocks=checkpoint.blocks,
        experts=config.num_experts,
        checkpoint_hash=config.base_hash,
    )


class A2EditPipeline:
    """The reference pipeline over one checkpoint; one edit at a time."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.spec = model_spec(checkpoint)
        self.graphs = make_graphs(checkpoint)
        self._tokenizers = checkpoint.prompt_tokenizers()

    @torch.inference_mode()
    def edit(self, request: EditRequest) -> EditResult:
        """Edit one picture; the result's `route` is "unmerged" and its predicted error 0."""
        clock = _Stages()
        prepared = prepare(request, self.spec)
        clock.done("prepare")
        encoded = self.encode(prepared, request.prompt)
        clock.done("encode")
        weights = self.gate(encoded)
        clock.done("gate")
        steps = request.steps or self.checkpoint.config.steps
        latents = self.denoise(encoded, weights, steps, request.seed)
        clock.done("denoise")
        pixels = self.graphs["vae_decoder"](latents)[0].numpy()
        clock.done("decode")
        image = compose(prepared, pixels)
        clock.done("compose")
        return EditResult(
            image=image,
            route="unmerged",
            predicted_error=0.0,
            seed=request.seed,
            steps=steps,
            timings=clock.seconds,
            gate_weights=weights[0].numpy(),
            bundle_hash="",
            window=prepared.window,
            supply="unmerged",
        )

    def tokens(self, kind: str, prompt: str) -> Tensor:
        """Ids i64 [1, length] of "text" or "pooled"."""
        return torch.from_numpy(self._tokenizers[kind].encode(prompt)[0])

    def encode(self, prepared: Prepared, prompt: str) -> Encoded:
        graphs = self.graphs
        canvas, mask, reference = (
            torch.from_numpy(np.ascontiguousarray(pixels))[None]
            for pixels in (prepared.canvas, prepared.mask, prepared.reference)
        )
        return Encoded(
            conditioning=graphs["vae_encoder"](canvas, mask),
            text_tokens=graphs["text_encoder"](self.tokens("text", prompt)),
            reference_tokens=graphs["image_encoder"](reference),
            pooled=graphs["pooled_encoder"](self.tokens("pooled", prompt)),
        )

    def gate(self, encoded: Encoded) -> Tensor:
        """Weights of the active experts, [1, L, N]; it sees no noise, so once is enough."""
        weights: Tensor = self.graphs["gate"](
            encoded.conditioning, encoded.reference_tokens, encoded.text_tokens
        )
        return weights

    def experts(self, weights: Tensor) -> AbstractContextManager[None]:
        """Run the transformer with its experts at gate weights [1, L, N] inside the block."""
        return unmerged(self.checkpoint.transformer, self.checkpoint.experts, weights)

    def denoise(
        self,
        encoded: Encoded,
        weights: Tensor,
        steps: int,
        seed: int,
        each: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Euler steps from noise to latents [1, h, w, 64], experts unmerged at `weights`."""
        _, rows, columns, _ = encoded.conditioning.shape
        latents = torch.from_numpy(noise(seed, (1, rows, columns, self.spec.latent_channels)))
        levels = torch.from_numpy(sigmas(steps, rows * columns))
        guidance = torch.tensor([self.checkpoint.config.guidance])
        with self.experts(weights):
            for step in range(steps):
                sigma, after = levels[step : step + 1], levels[step + 1 : step + 2]
                latents = self.graphs["dit"](
                    latents,
                    encoded.conditioning,
                    encoded.text_tokens,
                    encoded.reference_tokens,
                    self.graphs["modulation"](encoded.pooled, sigma, guidance),
                    after - sigma,
                )
                if each is not None:
                    each(step, latents)
        return latents


class _Stages:
    """Seconds between calls, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def done(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now

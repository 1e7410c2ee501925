"""Flow matching on a checkpoint's own modules: features, noise levels, loss (SPEC §8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from a2edit.model.autoencoder import PatchAutoencoder
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import GraphModule, encode_latents, make_graphs
from a2edit.model.latents import image_ids, mask_tokens, pack
from a2edit.model.routing import route_weights
from a2edit.training.data import Batch

# Loss weights a token: the mask's share on the target, and a floor that keeps the rest in shape.
_FLOOR, _REFERENCE = 0.1, 0.05


@dataclass(frozen=True, slots=True)
class NoiseLevels:
    """t = sigmoid(N(mean, std)), and a share of exact ones, where sampling starts."""

    mean: float = 0.6
    std: float = 1.0
    ones: float = 0.08

    def draw(self, count: int, device: torch.device) -> Tensor:
        levels = torch.sigmoid(torch.randn(count, device=device) * self.std + self.mean)
        return torch.where(torch.rand(count, device=device) < self.ones, 1.0, levels)


@dataclass(frozen=True, slots=True)
class Noise:
    """What chance adds to a batch: noise levels σ [B] and noise [B, T, 64], fp32."""

    sigma: Tensor
    values: Tensor


class FlowModel:
    """A checkpoint as a function from a batch to its loss."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        levels: NoiseLevels,
        device: torch.device,
        categories: int = 8,
        *,
        weighted: bool = True,
    ) -> None:
        self.checkpoint, self.levels, self.device = checkpoint, levels, device
        self.weighted = weighted
        # What SigLIP and T5 bring from their pretraining: tokens that tell what is shown. Only
        # training needs these heads; they are no part of the checkpoint.
        width = int(checkpoint.transformer.config.joint_attention_dim)
        self.semantics = nn.ModuleList(
            nn.Linear(width, categories, device=device) for _ in range(2)
        )
        self.graphs: dict[str, GraphModule] = make_graphs(checkpoint)
        self.ids = image_ids(*checkpoint.config.grid).to(device)

    @torch.no_grad()
    def latents(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """x₀ [B, Li, 64] of the whole canvas and conditioning [B, Li, 320]."""
        conditioning = self.graphs["vae_encoder"](batch.canvas, batch.mask)
        pixels = batch.canvas.permute(0, 3, 1, 2).float() / 127.5 - 1
        known = pack(encode_latents(self.checkpoint.vae, pixels))
        return known.flatten(1, 2), conditioning.flatten(1, 2)

    def context(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Text tokens, reference tokens and the pooled vector."""
        return (
            self.graphs["text_encoder"](batch.text_ids),
            self.graphs["image_encoder"](batch.reference),
            self.graphs["pooled_encoder"](batch.pooled_ids),
        )

    def gate_logits(self, conditioning: Tensor, reference: Tensor, text: Tensor) -> Tensor:
        """[B, L, N]"""
        logits: Tensor = self.checkpoint.gate(conditioning, reference.float(), text.float())
        return logits

    @torch.no_grad()
    def gate_logits_of(self, batch: Batch) -> Tensor:
        """Logits [B, L, N] of a batch, without a gradient."""
        _, conditioning = self.latents(batch)
        text, reference, _ = self.context(batch)
        return self.gate_logits(conditioning, reference, text)

    def route(self, logits: Tensor) -> Tensor:
        return route_weights(logits, self.checkpoint.config)

    def noise(self, count: int, tokens: int) -> Noise:
        """Noise for `count` samples of `tokens` tokens, from torch's generator."""
        sigma = self.levels.draw(count, self.device)
        channels = int(self.checkpoint.transformer.config.out_channels)
        return Noise(sigma, torch.randn(count, tokens, channels, device=self.device))

    def weight(self, batch: Batch) -> Tensor:
        """Weights of the tokens in the loss, [B, T]: what the mask covers counts most."""
        if not self.weighted:
            return torch.ones(batch.tokens.shape, device=self.device)
        hole = (batch.mask >= 128).float()[:, None]
        weight = _FLOOR + _pick(mask_tokens(hole).flatten(1, 2), batch.tokens).mean(-1)
        if self.checkpoint.config.layout == "diptych":
            weight[:, : weight.shape[1] // 2] = _REFERENCE
        return weight

    def loss(
        self,
        batch: Batch,
        *,
        experts: bool,
        noise: Noise | None = None,
        total: Tensor | None = None,
        semantic: float = 0.0,
        switched_off: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Weighted ‖v − (noise − x₀)‖² over the batch's tokens, and the gate's logits if it ran.

        Args:
            batch: samples.
            experts: whether gate and experts run; they must be injected.
            noise: of the samples; by default it is drawn here.
            total: what the weighted sum is divided by; by default the sum of the batch's weights.
            semantic: weight of the cross-entropy of the categories, read off the encoders.
            switched_off: an expert whose weight is set to 0, whatever the gate says.
        """
        logits = None
        # The transformer runs as the caller's autocast says. What else there is costs little:
        # latents, which are targets, and a gate, whose logits are compared, want all their digits.
        with torch.autocast(self.device.type, enabled=False):
            start, conditioning = self.latents(batch)
            text, reference, pooled = self.context(batch)
            if experts:
                logits = self.gate_logits(conditioning, reference, text)
        if logits is not None:
            weights = self.route(logits)
            if switched_off is not None:
                weights = weights.index_fill(
                    -1, torch.tensor(switched_off, device=self.device), 0.0
                )
            self.checkpoint.experts.weights = weights
        count, tokens = len(start), batch.tokens
        start, conditioning = _pick(start, tokens), _pick(conditioning, tokens)
        noise = noise or self.noise(count, tokens.shape[1])
        sigma = noise.sigma
        mixed = torch.lerp(start, noise.values, sigma[:, None, None])
        # Every window has the same relative positions; the first sample's ids serve the batch.
        velocity = self.checkpoint.transformer(
            hidden_states=torch.cat([mixed, conditioning], -1),
            encoder_hidden_states=torch.cat([text, reference], 1),
            pooled_projections=pooled,
            timestep=sigma,
            img_ids=self.ids[tokens[0]],
            txt_ids=torch.zeros(text.shape[1] + reference.shape[1], 3, device=self.device),
            guidance=torch.full((count,), self.checkpoint.config.guidance, device=self.device),
            return_dict=False,
        )[0].float()
        weight = self.weight(batch)
        # Asked of the autoencoder as it is now: a run fits or loads it after this was made.
        worth = channel_weights(self.checkpoint.vae).to(self.device)
        squares = (velocity - (noise.values - start)).square()
        error = (squares * worth if self.weighted else squares).mean(-1)
        loss = (error * weight).sum() / (weight.sum() if total is None else total)
        if semantic:
            loss = loss + semantic * self._semantic_loss(batch, reference, text)
        return loss, logits

    def _semantic_loss(self, batch: Batch, reference: Tensor, text: Tensor) -> Tensor:
        """Cross-entropy of the category by each encoder's mean token."""
        terms = [
            functional.cross_entropy(head(tokens.mean(1)).float(), batch.category)
            for head, tokens in zip(self.semantics, (reference, text), strict=True)
        ]
        return sum(terms, torch.zeros(()))


def channel_weights(vae: AutoencoderKL | PatchAutoencoder) -> Tensor:
    """What the channels of a packed token count in the loss, mean 1: [64].

    A principal component's worth in pixels is known: its decoder's norm. The first three carry
    most of a picture, the last ones detail that nobody could guess; counted alike, the guesswork
    drowns the picture. Weights are the norms, so that a channel's error counts halfway between
    latents and pixels. A learned autoencoder's channels are worth the same.
    """
    if not isinstance(vae, PatchAutoencoder):
        return torch.ones(4 * int(vae.config.latent_channels))
    norms = vae.decoder.weight.detach().flatten(1).norm(dim=1)
    return (norms / norms.mean()).repeat_interleave(4)


def _pick(tokens: Tensor, index: Tensor) -> Tensor:
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))

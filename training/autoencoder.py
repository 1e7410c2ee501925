"""Fitting the patch autoencoder: linear part in closed form, deblocking decoder by descent."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from a2edit.model.autoencoder import PatchAutoencoder
from a2edit.training.data import PairFactory
from a2edit.training.masks import MaskMix

# Photographs and text have detail that drawings lack; white noise of this strength in the fitted
# covariance keeps the components from specialising in the drawings' flat areas.
_DETAIL = 0.02


def fit_autoencoder(vae: nn.Module, factory: PairFactory, samples: int) -> None:
    """Closed-form start of a `PatchAutoencoder` on the CPU; any other is left as it is."""
    if not isinstance(vae, PatchAutoencoder):
        return
    side = vae.config.patch
    patches = []
    for index in range(samples):
        canvas = factory.example(-1 - index + (1 << 30), MaskMix(fine=1.0)).arrays["canvas"]
        pixels = torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 127.5 - 1
        patches.append(functional.unfold(pixels, side, stride=side)[0].T[::4])
    stacked = torch.cat(patches)
    generator = torch.Generator().manual_seed(0)
    stacked = stacked + _DETAIL * torch.randn(stacked.shape, generator=generator)
    vae.fit(stacked)


def autoencoder_loss(vae: nn.Module, canvas: Tensor, noise: Tensor) -> Tensor:
    """L1 and a gradient term on reconstructions of u8 [B, S, Wc, 3]; the encoder stays fixed.

    `noise` is standard normal, of the latents' shape [B, C, S/8, Wc/8].
    """
    pixels = canvas.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.mode()  # type: ignore[operator]
        # The sampler leaves errors in latents; a decoder that has seen some does not amplify them.
        latents = latents + 0.05 * noise
    decoded: Tensor = vae.decode(latents, return_dict=True).sample  # type: ignore[operator]
    loss = functional.l1_loss(decoded, pixels)
    for axis in (2, 3):
        loss = loss + functional.l1_loss(decoded.diff(dim=axis), pixels.diff(dim=axis))
    return loss

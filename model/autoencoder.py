"""A linear patch autoencoder behind `AutoencoderKL`'s interface, with a learned deblocking decoder.

The encoder projects every 8×8 RGB patch to its leading principal components, in closed form; the
decoder is the transpose of that plus a small convolutional correction, computed on the latent grid,
that sees neighbouring patches and so can remove block edges. It stands where FLUX has its
`AutoencoderKL`, and the same code takes either.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))) with 3×3 kernels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.conv2(functional.silu(self.conv1(functional.silu(x))))
        return x + inner


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """f8 patch autoencoder.

    Config fields that `AutoencoderKL` has too keep its names: `latent_channels`,
    `scaling_factor`, `shift_factor`, and `block_out_channels`, whose length tells diffusers'
    pipelines the factor 2³ = 8.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        patch: int = 8,
        width: int = 64,
        depth: int = 3,
        # read from the config by pipelines, not here
        scaling_factor: float = 1.0,  # noqa: ARG002
        shift_factor: float = 0.0,  # noqa: ARG002
        block_out_channels: tuple[int, ...] = (64, 64, 64, 64),  # noqa: ARG002
    ) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, latent_channels, patch, stride=patch)
        self.decoder = nn.ConvTranspose2d(latent_channels, 3, patch, stride=patch)
        last = nn.Conv2d(width, 3 * patch * patch, 3, padding=1)
        # Zero, so that an untrained correction corrects nothing.
        nn.init.zeros_(last.weight)
        last.bias = nn.Parameter(torch.zeros(3 * patch * patch))
        self.deblock = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            *(ResidualBlock(width) for _ in range(depth)),
            nn.SiLU(),
            last,
            nn.PixelShuffle(patch),
        )

    def encode(
        self, x: Tensor, return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """x [B, 3, H, W] in [-1, 1] → a distribution whose mode is [B, C, H/8, W/8]."""
        mean = self.encoder(x)
        # A variance of e⁻³⁰: the encoder is deterministic, the interface asks for a distribution.
        moments = torch.cat([mean, torch.full_like(mean, -30.0)], dim=1)
        posterior = DiagonalGaussianDistribution(moments)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """z [B, C, h, w] → pixels [B, 3, 8h, 8w] around [-1, 1], not clamped."""
        sample = self.decoder(z) + self.deblock(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    @torch.no_grad()
    def fit(self, patches: Tensor, flatten: float = 0.4) -> None:
        """Set the linear parts from data, in closed form.

        Args:
            patches: [n, 3·8·8] in [-1, 1], channel-major as a convolution reads them.
            flatten: a component of standard deviation σ is scaled to σ^flatten, then all to an
                overall RMS of 1: equal variances would spend the transformer on faint detail.
        """
        mean = patches.mean(0)
        centred = (patches - mean).double()
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(patches))
        channels = self.config.latent_channels
        sigma = values.flip(0)[:channels].clamp_min(1e-12).sqrt()
        basis = vectors.flip(1)[:, :channels].T
        gain = sigma ** (flatten - 1)
        gain = gain / (sigma * gain).square().mean().sqrt()
        shape = (channels, 3, self.config.patch, self.config.patch)
        encode, decode = basis * gain[:, None], basis / gain[:, None]
        self.encoder.weight.copy_(encode.reshape(shape))
        self.encoder.bias.copy_(-(encode @ mean.double()))  # type: ignore[union-attr]
        self.decoder.weight.copy_(decode.reshape(shape))
        # One bias a colour is all a transposed convolution has: the patch mean is flat to 1e-3.
        self.decoder.bias.copy_(mean.reshape(3, -1).mean(1))  # type: ignore[union-attr]

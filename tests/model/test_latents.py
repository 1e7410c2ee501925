"""Packing, masks, ids and schedule against diffusers' own pipeline classes (SPEC §2)."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline
from diffusers.pipelines.flux.pipeline_flux_fill import calculate_shift, retrieve_timesteps

from a2edit.model.latents import image_ids, mask_tokens, pack, unpack
from a2edit.runtime.sampler import sigmas


def _latents(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 16, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 16), (6, 4)])
def test_packing_is_diffusers(height: int, width: int) -> None:
    latents = _latents(height, width)
    theirs = FluxFillPipeline._pack_latents(latents, 2, 16, height, width)
    packed = pack(latents)
    assert torch.equal(packed.flatten(1, 2), theirs)
    assert torch.equal(unpack(packed), latents)


def test_packed_channels_are_c_dy_dx() -> None:
    latents = torch.zeros(1, 16, 4, 4)
    latents[0, 5, 2 + 1, 0] = 1  # channel 5, second row of the cell in token row 1
    assert pack(latents)[0, 1, 0].nonzero().item() == 5 * 4 + 1 * 2 + 0


def test_ids_are_diffusers() -> None:
    theirs = FluxFillPipeline._prepare_latent_image_ids(1, 6, 10, "cpu", torch.float32)
    assert torch.equal(image_ids(6, 10), theirs)


def test_mask_tokens_keep_every_pixel() -> None:
    mask = (torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    tokens = mask_tokens(mask)
    assert tokens.shape == (1, 2, 3, 256)
    assert tokens.sum() == mask.sum()


@pytest.mark.parametrize(("steps", "tokens"), [(50, 4096), (16, 512), (1, 1024), (28, 8192)])
def test_schedule_is_diffusers(steps: int, tokens: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    mu = calculate_shift(tokens)
    retrieve_timesteps(scheduler, steps, "cpu", sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    np.testing.assert_allclose(sigmas(steps, tokens), scheduler.sigmas.numpy(), atol=2e-7)

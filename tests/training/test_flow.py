"""What the loss counts, and what it leaves alone."""

import pytest
import torch
from diffusers import AutoencoderKL

from a2edit.model.architectures import SMALL, new_checkpoint, randomise_experts
from a2edit.model.experts import inject
from a2edit.runtime.errors import RequestError
from a2edit.training.data import PairFactory
from a2edit.training.flow import FlowModel, NoiseLevels, channel_weights
from a2edit.training.masks import MaskMix
from a2edit.training.stream import CategoryChoice, Choice, batches

FINE = MaskMix(fine=1)


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> FlowModel:
    checkpoint = new_checkpoint(SMALL, tmp_path_factory.mktemp("tokenizers"))
    randomise_experts(checkpoint)
    inject(checkpoint.transformer, checkpoint.experts)
    return FlowModel(checkpoint, NoiseLevels(), torch.device("cpu"))


def test_channels_count_by_their_decoders_norm(flow: FlowModel) -> None:
    vae = flow.checkpoint.vae
    with torch.no_grad():
        vae.decoder.weight[0] *= 10
    weights = channel_weights(vae)
    assert weights.shape == (64,)
    assert weights.mean() == pytest.approx(1)
    # Packed channel = c·4 + dy·2 + dx (SPEC §2).
    assert torch.equal(weights[:4], weights[:1].expand(4))
    norms = vae.decoder.weight.flatten(1).norm(dim=1)
    torch.testing.assert_close(weights[::4] / weights[4], norms / norms[1])


def test_a_learned_autoencoders_channels_count_alike() -> None:
    vae = AutoencoderKL(latent_channels=4, norm_num_groups=2, block_out_channels=(4,))
    assert torch.equal(channel_weights(vae), torch.ones(16))


@torch.no_grad()
def test_an_expert_that_is_switched_off_is_gone(flow: FlowModel) -> None:
    batch = next(batches(PairFactory(flow.checkpoint), Choice(FINE, 2), workers=0))
    losses = []
    for off in (None, 0, None):
        torch.manual_seed(1)
        losses.append(flow.loss(batch, experts=True, switched_off=off)[0].item())
        weights = flow.checkpoint.experts.weights
        assert weights is not None
        assert (weights[..., 0] > 0).all() == (off is None)  # the anchor is always awake
    assert losses[0] == losses[2]
    assert losses[0] != losses[1]


def test_semantics_teach_the_encoders_and_nothing_else(flow: FlowModel) -> None:
    batch = next(batches(PairFactory(flow.checkpoint), Choice(FINE, 2), workers=0))
    modules = flow.checkpoint.modules()
    for module in modules.values():
        module.requires_grad_(True)
    torch.manual_seed(1)
    plain, _ = flow.loss(batch, experts=False)
    torch.manual_seed(1)
    taught, _ = flow.loss(batch, experts=False, semantic=1.0)
    (taught - plain).backward()
    assert taught > plain
    for name in ("text_encoder", "image_encoder"):
        gradients = [p.grad for p in modules[name].parameters() if p.grad is not None]
        assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-6
    rest = [p.grad for p in modules["transformer"].parameters() if p.grad is not None]
    # Equal up to the rounding of two equal losses.
    assert max((float(gradient.abs().max()) for gradient in rest), default=0.0) < 1e-5


def test_categories_are_left_out_and_batched(flow: FlowModel) -> None:
    factory = PairFactory(flow.checkpoint)
    names = factory.source.categories
    choice = CategoryChoice(without=names[:7])
    batch = next(batches(factory, Choice(FINE, 4, (), choice), workers=0, group=1))
    assert set(batch.category.tolist()) == {7}
    stream = batches(factory, Choice(FINE, 4, (), CategoryChoice(by_batch=True)), workers=0)
    seen = [set(next(stream).category.tolist()) for _ in range(6)]
    assert all(len(categories) == 1 for categories in seen)
    assert len(set.union(*seen)) > 1


@pytest.mark.parametrize("without", [("robots",), "all"])
def test_wrong_categories_are_refused(flow: FlowModel, without: tuple[str, ...] | str) -> None:
    factory = PairFactory(flow.checkpoint)
    left_out = factory.source.categories if without == "all" else tuple(without)
    with pytest.raises(RequestError, match=r"left out|not among"):
        next(batches(factory, Choice(FINE, 2, (), CategoryChoice(without=left_out)), workers=0))

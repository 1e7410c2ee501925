"""The gate's starts: what each promises before the experts take their first step."""

from pathlib import Path

import pytest
import torch

from a2edit.model.architectures import TINY, new_checkpoint
from a2edit.model.routing import route_weights
from a2edit.training.gate_start import (
    GateFeatures,
    expert_of_category,
    start_gate,
    wanted_logits,
)

COUNT, CATEGORIES = 240, 4


def _features(categories: int = CATEGORIES) -> GateFeatures:
    """Reference and text that tell the category through noise; the scene tells nothing."""
    generator = torch.Generator().manual_seed(3)

    def noise(width: int, size: float) -> torch.Tensor:
        return size * torch.randn(COUNT, width, generator=generator)

    category = torch.arange(COUNT) % categories
    signs = torch.randn(categories, 24, generator=generator)
    return GateFeatures(
        conditioning=noise(320, 1.0),
        reference=signs[category] + noise(24, 0.3),
        text=signs[category].flip(1) + noise(24, 0.3),
        category=category,
    )


def test_even_wakes_all_alike(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(TINY, tmp_path)
    features = _features()
    start_gate(checkpoint.gate, features, checkpoint.config, "even")
    with torch.no_grad():
        chances = torch.softmax(features.logits(checkpoint.gate), -1)
    assert (chances - 1 / 8).abs().max() < 0.02


def test_categories_wake_an_expert_of_their_own(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(TINY, tmp_path)
    features = _features()
    share = start_gate(checkpoint.gate, features, checkpoint.config, "categories")
    assert share > 0.95
    with torch.no_grad():
        weights = route_weights(features.logits(checkpoint.gate), checkpoint.config)
    owners = expert_of_category(features, 8, anchor=0)
    assert len(set(owners.tolist())) == CATEGORIES
    assert 0 not in owners
    assert (weights > 0).sum(-1).float().mean() < 2.3
    own = weights.gather(2, owners[features.category][:, None, None].expand(-1, 3, 1))
    assert own.mean() > 2 * weights[..., 0].mean()


def test_a_gate_learns_its_start_under_autocast_too(tmp_path: Path) -> None:
    features, heads = _features(), []
    for half in (False, True):
        checkpoint = new_checkpoint(TINY, tmp_path)
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            start_gate(checkpoint.gate, features, checkpoint.config, "categories")
        heads.append(checkpoint.gate.heads.weight)
    assert torch.equal(*heads)


def test_more_categories_than_experts_share_by_likeness() -> None:
    features = _features(categories=8)
    alike = features.reference.clone()
    alike[features.category == 7] = alike[features.category == 2]
    text = features.text.clone()
    text[features.category == 7] = text[features.category == 2]
    found = expert_of_category(
        GateFeatures(features.conditioning, alike, text, features.category), 8, anchor=0
    )
    assert found[7] == found[2]
    assert len(set(found.tolist())) == 7


def test_one_expert_alone_is_everybodys() -> None:
    assert set(expert_of_category(_features(), 1, anchor=0).tolist()) == {0}


def test_wanted_logits_leave_the_anchor_between() -> None:
    logits = wanted_logits(torch.tensor([3, 1]), experts=4, anchor=0)
    assert logits[0].argmax() == 3
    assert logits[1].argmax() == 1
    assert ((logits > logits[:, :1]).sum(-1) == 1).all()


@pytest.mark.parametrize("start", ["spread", "categories"])
def test_the_same_seed_gives_the_same_gate(tmp_path: Path, start: str) -> None:
    states = []
    for run in ("a", "b"):
        checkpoint = new_checkpoint(TINY, tmp_path / run, seed=5)
        torch.manual_seed(5)
        start_gate(checkpoint.gate, _features(), checkpoint.config, start)  # type: ignore[arg-type]
        states.append(checkpoint.gate.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])

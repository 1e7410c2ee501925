"""Anchor-Guided Routing against a plain reading of the paper, one expert at a time."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from a2edit.model.routing import anchor_guided_routing

# A coarse grid, so that ties happen.
_LOGITS = st.lists(st.integers(-8, 8).map(lambda i: i / 4), min_size=1, max_size=8)


def by_the_paper(
    logits: list[float], anchor: int, fallback: str, renorm: bool, anchor_weight: str
) -> list[float]:
    total = sum(math.exp(value) for value in logits)
    weights = [math.exp(value) / total for value in logits]
    active = [i for i in range(len(logits)) if i != anchor and logits[i] > logits[anchor]]
    if not active and fallback == "strongest" and len(logits) > 1:
        best = max(logits[i] for i in range(len(logits)) if i != anchor)
        active = [next(i for i in range(len(logits)) if i != anchor and logits[i] == best)]
    if anchor_weight == "one":
        weights[anchor] = 1.0
    chosen = [weights[i] if i == anchor or i in active else 0.0 for i in range(len(logits))]
    return [value / sum(chosen) for value in chosen] if renorm else chosen


@given(
    logits=_LOGITS,
    place=st.integers(0, 7),
    fallback=st.sampled_from(["strongest", "none"]),
    renorm=st.booleans(),
    anchor_weight=st.sampled_from(["gate", "one"]),
)
def test_agrees_with_the_paper(
    logits: list[float],
    place: int,
    fallback: Literal["strongest", "none"],
    renorm: bool,
    anchor_weight: Literal["gate", "one"],
) -> None:
    anchor = place % len(logits)
    got = anchor_guided_routing(
        torch.tensor(logits),
        anchor=anchor,
        fallback=fallback,
        renorm=renorm,
        anchor_weight=anchor_weight,
    )
    expected = by_the_paper(logits, anchor, fallback, renorm, anchor_weight)
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-6)
    assert [w > 0 for w in got.tolist()] == [w > 0 for w in expected]


@given(logits=_LOGITS.filter(lambda values: len(values) > 1))
def test_two_to_eight_are_active(logits: list[float]) -> None:
    assert 2 <= int((anchor_guided_routing(torch.tensor(logits)) > 0).sum()) <= len(logits)


def test_the_lowest_index_wins_a_tie() -> None:
    weights = anchor_guided_routing(torch.tensor([1.0, 0.0, 0.5, 0.5]))
    assert (weights > 0).tolist() == [True, False, True, False]


def test_equal_to_the_anchor_is_not_above_it() -> None:
    weights = anchor_guided_routing(torch.tensor([1.0, 1.0, 1.0]), fallback="none")
    assert (weights > 0).tolist() == [True, False, False]


def test_logits_decide_where_their_softmax_is_equal() -> None:
    # One unit in the last place apart: different as fp32 logits, one number as probabilities.
    above = float(np.nextafter(np.float32(0.1), np.float32(1.0)))
    logits = torch.tensor([0.1, above, -1.0, 3.0])
    assert torch.softmax(logits, -1)[0] == torch.softmax(logits, -1)[1]
    assert anchor_guided_routing(logits)[1] > 0


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 6, 8)])
def test_any_leading_shape(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    flat = anchor_guided_routing(logits.reshape(-1, 8))
    assert torch.equal(anchor_guided_routing(logits).reshape(-1, 8), flat)

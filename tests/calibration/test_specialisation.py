"""Measures of specialisation, on tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from a2edit.calibration.specialisation import active_sets, mean_weights, probe_categories
from a2edit.runtime.errors import RequestError

CATEGORIES = ["animals", "plants", "vehicles", "furniture"] * 30


def _own_expert(noise: float) -> np.ndarray:
    """Every category wakes an expert of its own, in all of three blocks."""
    rng = np.random.default_rng(0)
    names = sorted(set(CATEGORIES))
    tables = np.abs(rng.normal(0, noise, (len(CATEGORIES), 3, 5)))
    for place, category in enumerate(CATEGORIES):
        tables[place, :, 1 + names.index(category)] += 0.6
    return tables.astype(np.float32)


def test_a_gate_that_knows_the_category_is_read() -> None:
    probe = probe_categories(_own_expert(0.02), CATEGORIES)
    assert probe.accuracy == 1
    assert probe.entropy == pytest.approx(2)
    assert 1.8 < probe.bits <= 2


def test_a_gate_that_does_not_is_not() -> None:
    tables = np.random.default_rng(1).random((len(CATEGORIES), 3, 5)).astype(np.float32)
    probe = probe_categories(tables, CATEGORIES)
    assert probe.accuracy < 0.45
    assert probe.bits < 0.2


def test_the_same_table_for_all_says_nothing() -> None:
    probe = probe_categories(np.ones((len(CATEGORIES), 3, 5)), CATEGORIES)
    assert probe.accuracy <= 0.3
    assert probe.bits < 0.05


@pytest.mark.parametrize("categories", [["animals"] * 120, ["animals"] * 117 + ["plants"] * 3])
def test_too_little_to_judge_by_is_refused(categories: list[str]) -> None:
    with pytest.raises(RequestError, match="two or more categories"):
        probe_categories(_own_expert(0.1), categories)


def test_active_sets() -> None:
    tables = np.array([[[0.5, 0.5, 0], [0.2, 0, 0.8]], [[0.5, 0.5, 0], [0.3, 0.3, 0.4]]])
    found = active_sets(tables)
    assert found.mean == 2.25
    assert list(found.shares) == [(0, 1), (0, 2), (0, 1, 2)]
    assert found.shares[0, 1] == 0.5
    np.testing.assert_array_equal(found.awake, [1, 0.75, 0.5])


def test_mean_weights_by_category() -> None:
    tables = np.array([[[1.0, 0]], [[0.5, 0.5]], [[0, 1.0]]])
    names, means = mean_weights(tables, ["b", "a", "b"])
    assert names == ("a", "b")
    np.testing.assert_array_equal(means, [[0.5, 0.5], [0.5, 0.5]])

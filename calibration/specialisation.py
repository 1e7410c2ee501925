"""Have the experts become different, and does the gate wake the right ones? (paper §3.2)

Pure functions of gate tables, after routing, and of what each request shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from a2edit.runtime.errors import RequestError

FloatArray = NDArray[np.floating]
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class CategoryProbe:
    """What a linear classifier reads off gate tables.

    Attributes:
        accuracy: share of requests whose category it names right; every request is judged by a
            classifier that was fitted without it.
        chance: accuracy of naming the commonest category.
        bits: lower bound of the mutual information I(category; table) = H(category) - H(category |
            table), the last one bounded from above by the classifier's cross-entropy; never
            below 0.
        entropy: H(category) in bits, what `bits` can reach at most.
    """

    accuracy: float
    chance: float
    bits: float
    entropy: float


def probe_categories(tables: FloatArray, categories: Sequence[str]) -> CategoryProbe:
    """Cross-validated multinomial logistic regression on standardised tables.

    Args:
        tables: [S, L, N].
        categories: [S], each at least five times.

    Raises:
        RequestError: fewer than two categories, or one with too few requests to be judged.
    """
    counts = Counter(categories)
    if len(tables) != len(categories) or len(counts) < 2 or min(counts.values()) < _FOLDS:
        raise RequestError(
            f"a probe over {len(tables)} gate tables and the categories {dict(counts)}: it needs "
            f"two or more categories with {_FOLDS} requests each"
        )
    names, labels = np.unique(np.asarray(categories), return_inverse=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=1.0))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    flat = np.asarray(tables, np.float64).reshape(len(tables), -1)
    chances = cross_val_predict(model, flat, labels, cv=folds, method="predict_proba")
    right = chances[np.arange(len(labels)), labels]
    shares = np.bincount(labels, minlength=len(names)) / len(labels)
    entropy = float(-(shares * np.log2(shares)).sum())
    unexplained = float(-np.log2(np.maximum(right, 1e-12)).mean())
    return CategoryProbe(
        accuracy=float((chances.argmax(1) == labels).mean()),
        chance=float(shares.max()),
        bits=max(0.0, entropy - unexplained),
        entropy=entropy,
    )


@dataclass(frozen=True, slots=True)
class ActiveSets:
    """Which experts are awake together.

    Attributes:
        mean: active experts of a block, mean over requests and blocks.
        shares: of (request, block) pairs by active set, commonest first; sets are sorted tuples
            of expert indices.
        awake: share of (request, block) pairs in which each expert is active, [N].
    """

    mean: float
    shares: dict[tuple[int, ...], float]
    awake: NDArray[np.float64]


def active_sets(tables: FloatArray) -> ActiveSets:
    """Count the active sets of tables [S, L, N]; a weight above 0 is an active expert."""
    active = np.asarray(tables) > 0
    rows = active.reshape(-1, active.shape[-1])
    counted = Counter(tuple(np.flatnonzero(row).tolist()) for row in rows)
    shares = {found: count / len(rows) for found, count in counted.most_common()}
    return ActiveSets(float(rows.sum(1).mean()), shares, rows.mean(0))


def mean_weights(
    tables: FloatArray, categories: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Categories in alphabetic order, and their mean weight of every expert over blocks: [C, N]."""
    names = tuple(sorted(set(categories)))
    marks = np.asarray(categories)
    return names, np.stack([np.asarray(tables)[marks == name].mean((0, 1)) for name in names])

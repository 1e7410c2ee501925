"""Fréchet distance of two sets of features (Heusel et al. 2017).

|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr √(Σ₁Σ₂). With X the centred features over √(n−1), the last trace
is the sum of the singular values of X₁X₂ᵀ: exact, and for some hundred pictures a matrix of some
hundred rows instead of the root of a 2048 × 2048 one.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float64]
Key = tuple[str, ...]
LEAST = 2  # pictures in a set, or there is no spread


def frechet_distance(first: Features, second: Features) -> float:
    """Of features f64 [n,d] and [m,d], with n and m at least 2."""
    centred = []
    for features in (first, second):
        if len(features) < LEAST:
            raise ValueError(f"a set of {len(features)} pictures has no spread")
        centred.append((features - features.mean(axis=0)) / np.sqrt(len(features) - 1))
    one, two = centred
    apart = float(((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum())
    spread = float((one**2).sum() + (two**2).sum())
    shared = float(np.linalg.svd(one @ two.T, compute_uv=False).sum())
    return max(0.0, apart + spread - 2 * shared)


@dataclass(slots=True)
class Sets:
    """Features of edits by set, and of the truths that each set's edits had."""

    _edits: dict[Key, list[Features]] = field(default_factory=dict)
    _truths: dict[Key, list[Features]] = field(default_factory=dict)

    def add(self, key: Key, edit: Features, truth: Features) -> None:
        """One picture's features f64 [d] and its truth's."""
        self._edits.setdefault(key, []).append(edit)
        self._truths.setdefault(key, []).append(truth)

    def distances(self) -> dict[Key, float]:
        """Every set's distance that has two pictures or more."""
        return {
            key: frechet_distance(np.stack(edits), np.stack(self._truths[key]))
            for key, edits in self._edits.items()
            if len(edits) >= LEAST
        }

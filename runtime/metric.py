"""How far apart gate tables are, in output error: the one formula of calibration and runtime."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class RouteMetric:
    """Gram matrices of the experts, block by block (SPEC §5).

    Attributes:
        gram: G [L, N, N] float64, symmetric and positive semidefinite: (w−r)ᵀ G_l (w−r) is the
            expected squared output error of running r in block l where the gate asked for w.
        energy: the expected squared output itself, above 0.
    """

    gram: NDArray[np.float64]
    energy: float

    @property
    def shape(self) -> tuple[int, int]:
        """(L, N) of the tables that can be compared."""
        return self.gram.shape[0], self.gram.shape[1]

    def errors(
        self,
        tables: NDArray[np.floating] | Sequence[NDArray[np.floating]],
        routes: NDArray[np.floating] | Sequence[NDArray[np.floating]],
    ) -> NDArray[np.float64]:
        """Predicted relative error of serving each table by each route.

        sqrt( Σ_l (w_l−r_l)ᵀ G_l (w_l−r_l) / energy )

        Args:
            tables: what a gate asked for, [S, L, N].
            routes: what would run instead, [K, L, N].

        Returns:
            [S, K].
        """
        asked, offered = (np.asarray(given, np.float64) for given in (tables, routes))
        squares = np.empty((len(asked), len(offered)))
        # Row by row: a log of a million tables must not become one array of gaps.
        for place, table in enumerate(asked):
            gaps = table - offered
            squares[place] = np.einsum("kli,lij,klj->k", gaps, self.gram, gaps, optimize=True)
        # Rounding may take a zero below zero.
        return np.sqrt(np.maximum(squares, 0) / self.energy)

"""From the gate tables of a calibration set to K named routes (SPEC §3, §5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from a2edit.calibration.gram import to_euclid
from a2edit.runtime.errors import RequestError
from a2edit.runtime.metric import RouteMetric


@dataclass(frozen=True, slots=True)
class Route:
    """A table of frozen expert weights under a name.

    Attributes:
        name: from the commonest category of its members; unique, safe as a file name.
        table: [L, N] fp32, 0 = inactive.
        members: calibration samples that it serves.
        predicted_error: mean of its members' predicted relative errors.
    """

    name: str
    table: NDArray[np.float32]
    members: int
    predicted_error: float


def cluster_routes(
    tables: NDArray[np.floating],
    categories: Sequence[str],
    metric: RouteMetric,
    count: int,
    seed: int = 0,
) -> list[Route]:
    """K-means in the Gram metric; a route is the mean of its members' tables.

    1. Where fewer than K tables can be told apart, there are as many routes as those.
    2. An entry that is zero in every member stays exactly zero.
    3. Routes are ordered by members, then by table, so that a rebuild names them alike.

    Args:
        tables: [S, L, N], after Anchor-Guided Routing.
        categories: [S], what each sample shows.
        metric: of the same checkpoint.
        count: K ≥ 1.
        seed: of k-means' starts.

    Raises:
        RequestError: K < 1, no tables, or tables with NaN or infinity.
    """
    if count < 1:
        raise RequestError(f"routes: K is {count}; it must be at least 1")
    if len(tables) == 0 or not np.isfinite(tables).all():
        raise RequestError(
            f"routes: {len(tables)} gate tables were traced, or some hold NaN or infinity; "
            "check the checkpoint's gate/"
        )
    places = to_euclid(metric, tables)
    # Rounded to what fp32 can tell apart: k-means must not be asked to split equal points.
    span = max(float(np.abs(places).max()), np.finfo(np.float64).tiny)
    distinct = len(np.unique(np.round(places / span, 6), axis=0))
    if (wanted := min(count, distinct)) > 1:
        model = KMeans(n_clusters=wanted, n_init=8, random_state=seed).fit(places / span)
        labels = model.labels_
    else:
        labels = np.zeros(len(tables), dtype=np.int64)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    means = {index: tables[group].astype(np.float64).mean(0) for index, group in enumerate(groups)}
    order = sorted(means, key=lambda index: (-len(groups[index]), means[index].tolist()))
    names: Counter[str] = Counter()
    routes = []
    for index in order:
        group, table = groups[index], means[index].astype(np.float32)
        errors = metric.errors(tables[group], table[None])[:, 0]
        kinds = Counter(categories[sample] for sample in group.tolist())
        stem = max(sorted(kinds), key=lambda kind: kinds[kind])
        names[stem] += 1
        name = stem if names[stem] == 1 else f"{stem}-{names[stem]}"
        routes.append(Route(name, table, len(group), float(errors.mean())))
    return routes

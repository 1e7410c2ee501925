"""Routes from gate tables: of the calibration set, and of a log if there is one."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from a2edit.export.files import read_json, write_json
from a2edit.export.steps.calibrate import read_metric, read_traces

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route, RouteLimit


def save_routes(
    folder: Path,
    traces: Path,
    metric: Path,
    logged: NDArray[np.float32] | None,
    limit: RouteLimit,
    set_bytes: int,
) -> None:
    """routes.json; `logged` are gate tables [T, L, N] of traffic."""
    from a2edit.calibration.report import thinned, with_traffic
    from a2edit.calibration.routes import RouteSample, choose_routes

    found, measure = read_traces(traces), read_metric(metric)
    sample = RouteSample(found.tables, found.categories)
    if logged is not None:
        sample = with_traffic(sample, thinned(logged), measure)
    routes = choose_routes(sample, measure, limit, set_bytes)
    fields = [{**asdict(route), "table": route.table.tolist()} for route in routes]
    write_json(folder / "routes.json", fields)


def read_routes(folder: Path) -> list[Route]:
    """The routes that `save_routes` wrote."""
    from a2edit.calibration.routes import Route

    routes = [Route(**entry) for entry in read_json(folder / "routes.json")]
    return [replace(route, table=np.array(route.table, dtype=np.float32)) for route in routes]

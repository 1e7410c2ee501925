"""Routes from gate tables: of the calibration set, and of a log if there is one."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from a2edit.export.files import read_json, write_json
from a2edit.export.steps.calibrate import read_metric, read_traces

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route, RouteLimit


def save_routes(
    folder: Path, traces: Path, metric: Path, limit: RouteLimit, set_bytes: int
) -> None:
    """routes.json."""
    from a2edit.calibration.routes import RouteSample, choose_routes

    found = read_traces(traces)
    sample = RouteSample(found.tables, found.categories)
    routes = choose_routes(sample, read_metric(metric), limit, set_bytes)
    fields = [{**asdict(route), "table": route.table.tolist()} for route in routes]
    write_json(folder / "routes.json", fields)


def read_routes(folder: Path) -> list[Route]:
    """The routes that `save_routes` wrote."""
    from a2edit.calibration.routes import Route

    routes = [Route(**entry) for entry in read_json(folder / "routes.json")]
    return [replace(route, table=np.array(route.table, dtype=np.float32)) for route in routes]

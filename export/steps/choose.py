"""Routes from the calibration set's gate tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from a2edit.export.files import read_json, write_json

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route
    from a2edit.export.source import Source


def save_routes(folder: Path, source: Source, traces: Path, count: int) -> None:
    """routes.json: the routes, and the metric in which they were found."""
    from a2edit.calibration.routes import cluster_routes

    tables = load_file(traces / "traces.safetensors")["tables"]
    categories = read_json(traces / "categories.json")
    metric = source.metric
    routes = cluster_routes(tables, categories, metric, count)
    write_json(
        folder / "routes.json",
        {
            "routes": [{**_fields(route), "table": route.table.tolist()} for route in routes],
            "gram": metric.gram.tolist(),
            "energy": metric.energy,
        },
    )


def read_routes(folder: Path) -> list[Route]:
    """The routes that `save_routes` wrote."""
    from a2edit.calibration.routes import Route

    routes = [Route(**entry) for entry in read_json(folder / "routes.json")["routes"]]
    return [replace(route, table=np.array(route.table, dtype=np.float32)) for route in routes]


def _fields(route: Route) -> dict[str, Any]:
    return {name: getattr(route, name) for name in ("name", "members", "predicted_error")}

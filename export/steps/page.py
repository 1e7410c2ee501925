"""The page of a bundle's routes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from a2edit.export.steps.calibrate import read_metric, read_traces

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route
    from a2edit.export.source import Source

PAGE_FILE = "routes.html"


def save_page(
    folder: Path,
    source: Source,
    traces: Path,
    metric: Path,
    routes: Sequence[Route],
    *,
    tolerance: float,
    set_bytes: int,
    merges: bool,
) -> None:
    """routes.html, judged on the calibration set."""
    from a2edit.calibration.report import route_report
    from a2edit.calibration.routes import RouteSample
    from a2edit.export.routes_page import RoutesPage, routes_page

    found = read_traces(traces)
    sample = RouteSample(found.tables, found.categories)
    tables = np.stack([route.table for route in routes])
    page = RoutesPage(
        name=source.config.name,
        routes=routes,
        report=route_report(tables, sample, read_metric(metric), tolerance),
        tolerance=tolerance,
        set_bytes=set_bytes,
        merges=merges,
        requests=f"{len(found.tables)} calibration requests",
    )
    (folder / PAGE_FILE).write_text(routes_page(page), encoding="utf-8")

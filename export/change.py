"""What other routes would bring a bundle, from its own files and a log: no checkpoint, no torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from a2edit.calibration.report import CurveRow, figures, thinned, with_traffic
from a2edit.calibration.routes import (
    Route,
    RouteLimit,
    RouteSample,
    choose_routes,
    nearest_errors,
)
from a2edit.export.edge import weight_set_bytes
from a2edit.export.settings import GIVEN_DATA
from a2edit.export.steps.merge import base_weights
from a2edit.export.svg import percent
from a2edit.runtime.bundle import open_bundle
from a2edit.runtime.errors import BundleError
from a2edit.runtime.manifest import Manifest
from a2edit.runtime.metric import RouteMetric

_FOLDS = 4


@dataclass(frozen=True, slots=True)
class BundleRoutes:
    """What a bundle knows of its routes.

    Attributes:
        set_bytes: of the largest weight set.
        small_base: whether the base that others are merged from is in 8 bits.
    """

    manifest: Manifest
    metric: RouteMetric
    routes: Sequence[Route]
    sample: RouteSample
    set_bytes: int
    small_base: bool

    @property
    def tables(self) -> NDArray[np.float32]:
        return stacked(self.routes)

    @property
    def tolerance(self) -> float:
        return self.manifest.route_metric.tolerance


def read_bundle_routes(folder: Path) -> BundleRoutes:
    """Check a bundle's files and read its routes and calibration tables.

    Raises:
        BundleError: missing, damaged, or without calibration tables.
    """
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    if manifest.calibration is None:
        raise BundleError(
            f"{str(folder)!r} holds no gate tables of its calibration set, so its routes cannot be "
            "judged: build it again with this version"
        )
    tables = load_file(bundle.path(manifest.calibration.file))["tables"]
    return BundleRoutes(
        manifest=manifest,
        metric=manifest.route_metric.metric,
        routes=[
            Route(name, np.array(entry.table, np.float32), entry.members, entry.predicted_error)
            for name, entry in manifest.routes.items()
        ],
        sample=RouteSample(tables, manifest.calibration.categories),
        set_bytes=max(map(weight_set_bytes, manifest.graphs["dit"].values())),
        small_base=bool(manifest.merge and base_weights(bundle.path(manifest.merge.file))[1]),
    )


@dataclass(frozen=True, slots=True)
class NewRoutes:
    """Routes that could be built, beside those that are.

    Attributes:
        routes: from the calibration set, and the log if there is one.
        sample: what they were made from.
        calibration: figures (now, then) on the calibration set.
        logged: figures (now, then) on the log; "then" judges each request by routes that were
            made without it, since "now" was made without any of them.
    """

    routes: Sequence[Route]
    sample: RouteSample
    calibration: tuple[CurveRow, CurveRow]
    logged: tuple[CurveRow, CurveRow] | None


def new_routes(
    known: BundleRoutes, logged: NDArray[np.float32] | None, limit: RouteLimit | None
) -> NewRoutes:
    """Make routes anew; as many as the bundle has unless `limit` says otherwise."""
    limit = limit or RouteLimit(len(known.routes))
    tables = thinned(logged) if logged is not None else None

    def make(extra: NDArray[np.floating] | None) -> tuple[list[Route], RouteSample]:
        sample = known.sample
        if extra is not None and len(extra):
            sample = with_traffic(sample, extra, known.metric)
        return choose_routes(sample, known.metric, limit, known.set_bytes), sample

    def judged(asked: NDArray[np.floating], routes: NDArray[np.float32]) -> CurveRow:
        errors = nearest_errors(asked, routes, known.metric)
        return figures(errors, len(routes), known.tolerance)

    routes, sample = make(tables)
    own = known.sample.tables
    calibration = judged(own, known.tables), judged(own, stacked(routes))
    if tables is None:
        return NewRoutes(routes, sample, calibration, None)
    # Shuffled: traffic comes in runs of one kind.
    fold = np.random.default_rng(0).permutation(len(tables)) % _FOLDS
    errors = np.empty(len(tables))
    for part in range(_FOLDS):
        if (held := fold == part).any():
            without, _ = make(tables[~held])
            errors[held] = nearest_errors(tables[held], stacked(without), known.metric)
    then = figures(errors, len(routes), known.tolerance)
    return NewRoutes(routes, sample, calibration, (judged(tables, known.tables), then))


def change_rows(known: BundleRoutes, new: NewRoutes) -> list[tuple[str, str, str]]:
    """(what, now, then), side by side."""
    counts = len(known.routes), len(new.routes)
    rows = [
        ("routes", *(str(count) for count in counts)),
        ("weight sets, MB", *(f"{count * known.set_bytes / 1e6:,.1f}" for count in counts)),
    ]
    for name, pair in (("calibration", new.calibration), ("log", new.logged)):
        if pair is None:
            continue
        now, then = pair
        rows += [
            (f"{name}: within {percent(known.tolerance)}",
             f"{100 * now.hit_rate:.1f} %", f"{100 * then.hit_rate:.1f} %"),
            (f"{name}: mean predicted error", percent(now.mean), percent(then.mean)),
            (f"{name}: 95 % are within", percent(now.p95), percent(then.p95)),
        ]  # fmt: skip
    return [(what, now, then) for what, now, then in rows]


def build_command(
    known: BundleRoutes, bundle: Path, logs: Sequence[Path], limit: RouteLimit | None
) -> str:
    """The command that builds such routes."""
    manifest = known.manifest
    words = ["a2edit-build", "engines", "--model", manifest.name, "--out", str(bundle)]
    if limit is None:
        words += ["--routes", str(len(known.routes))]
    elif limit.error is not None:
        words += ["--route-error", f"{limit.error:g}"]
    elif limit.budget is not None:
        words += ["--routes-budget", str(limit.budget)]
    else:
        words += ["--routes", str(limit.count)]
    words += ["--samples", str(len(known.sample.tables))]
    words += ["--route-tolerance", f"{known.tolerance:g}"]
    words += [] if manifest.merge else ["--routes-only"]
    words += ["--merge-base", "int8"] if known.small_base else []
    for log in logs:
        words += ["--from-log", str(log)]
    tail = " --calibration DIR" if manifest.tools.get("calibration") == GIVEN_DATA else ""
    return shlex.join(words) + tail


def stacked(routes: Sequence[Route]) -> NDArray[np.float32]:
    """Tables [K, L, N]."""
    return np.stack([route.table for route in routes])

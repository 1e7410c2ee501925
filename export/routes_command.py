"""a2edit-build routes: a bundle's routes, looked at again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from a2edit.calibration.report import RouteReport, route_report
from a2edit.calibration.routes import Route, RouteLimit, RouteSample
from a2edit.export.change import (
    BundleRoutes,
    NewRoutes,
    build_command,
    change_rows,
    new_routes,
    read_bundle_routes,
    stacked,
)
from a2edit.export.inspect import plain_table
from a2edit.export.routes_page import Change, RoutesPage, routes_page
from a2edit.export.svg import percent
from a2edit.export.traffic import read_traffic
from a2edit.runtime.images import atomic_path


def show_routes(
    bundle: Path,
    logs: Sequence[Path],
    limit: RouteLimit | None,
    page: Path | None,
    console: Console,
) -> None:
    """Print a bundle's routes, and with a log or a limit what other routes would change.

    Args:
        bundle: folder.
        logs: of `a2edit-run --route-log`, with the same checkpoint.
        limit: how many routes to make anew; as many as there are when None.
        page: where to write the HTML page.
        console: where to print.

    Raises:
        BundleError: the bundle is missing or damaged, or has no calibration tables.
        DataError: a log is damaged or of another checkpoint.
        RequestError: a budget below one weight set.
    """
    known = read_bundle_routes(bundle)
    hashed = known.manifest.model.checkpoint_hash
    traffic = read_traffic(logs, hashed) if logs else None
    for note in traffic.notes if traffic else ():
        console.print(f"[yellow]{note}[/]", soft_wrap=True)
    new = change = None
    if traffic or limit:
        new = new_routes(known, traffic.tables if traffic else None, limit)
        change = Change(change_rows(known, new), build_command(known, bundle, logs, limit))
    routes, sample = (new.routes, new.sample) if new else (known.routes, known.sample)
    # Weights are for making routes; judged, every request counts once.
    judged = RouteSample(sample.tables, sample.categories)
    report = route_report(stacked(routes), judged, known.metric, known.tolerance)
    _print_bundle(known, console)
    _print_routes(known, routes, report, "Routes, made anew" if new else "Routes", console)
    if change is not None:
        _print_change(change, console)
    if page is not None:
        shown = RoutesPage(
            name=known.manifest.name,
            routes=routes,
            report=report,
            tolerance=known.tolerance,
            set_bytes=known.set_bytes,
            merges=known.manifest.merge is not None,
            requests=_requests(known, new),
            change=change,
        )
        with atomic_path(page) as temporary:
            temporary.write_text(routes_page(shown), encoding="utf-8")
        console.print(f"page         {page}", soft_wrap=True)


def _requests(known: BundleRoutes, new: NewRoutes | None) -> str:
    own = len(known.sample.tables)
    logged = len(new.sample.tables) - own if new else 0
    return f"{own} calibration" + (f" and {logged} logged" if logged else "") + " requests"


def _print_bundle(known: BundleRoutes, console: Console) -> None:
    past = "merged on demand" if known.manifest.merge else "the nearest route (built --routes-only)"
    console.print(
        f"[bold]{known.manifest.name}[/]  {len(known.routes)} routes of "
        f"{known.set_bytes / 1e6:,.1f} MB; tolerance {percent(known.tolerance)}, past it: {past}",
        soft_wrap=True,
    )


def _print_routes(
    known: BundleRoutes, routes: Sequence[Route], report: RouteReport, title: str, console: Console
) -> None:
    table = plain_table(title, ("route",), ("made from", "mean error"))
    for route in routes:
        table.add_row(route.name, str(route.members), percent(route.predicted_error))
    console.print(table)
    console.print(_curve(known, report, len(routes)))
    knee = f"at {report.knee} routes" if report.knee else "none: every doubling brings as much"
    console.print(f"knee         {knee}")
    console.print(f"within       {100 * report.served.hit_rate:.1f} % of requests")
    table = plain_table("Requests within the tolerance", ("category",), ("within", "requests"))
    for name, (share, count) in report.categories.items():
        table.add_row(name, f"{100 * share:.0f} %", str(count))
    console.print(table)


def _curve(known: BundleRoutes, report: RouteReport, chosen: int) -> Table:
    heads = ("mean", "median", "95 %", "largest", "within", "others", "MB")
    table = plain_table("Predicted error against the number of routes", ("routes",), heads)
    others = {row.routes: row for row in report.held_out}
    for row in report.curve:
        other = others.get(row.routes)
        table.add_row(
            str(row.routes),
            *(percent(value) for value in (row.mean, row.median, row.p95, row.largest)),
            f"{100 * row.hit_rate:.0f} %",
            f"{100 * other.hit_rate:.0f} %" if other else "",
            f"{row.routes * known.set_bytes / 1e6:,.1f}",
            style="bold" if row.routes == chosen else None,
        )
    return table


def _print_change(change: Change, console: Console) -> None:
    table = plain_table("What would change", ("",), ("now", "then"))
    for row in change.rows:
        table.add_row(*row)
    console.print(table)
    console.print(f"to build it  {change.command}", soft_wrap=True)

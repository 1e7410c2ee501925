"""report/routes.html: which routes a bundle has, and how far they are from what gates ask for.

Nothing in it depends on when or where it was made, so that rebuilds repeat byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from a2edit.calibration.report import NOTHING, CurveRow, RouteReport
from a2edit.calibration.routes import Route
from a2edit.export.charts import Line, Mark, histogram, legend, line_chart, share_bars
from a2edit.export.heatmap import heat_map
from a2edit.export.style import page, table, tiles
from a2edit.export.svg import percent, tag, text

_ERROR = (
    "An error here is the predicted relative error of the velocity: what running a route costs a "
    "request whose gate asked for other weights. It is predicted from gate tables alone, in the "
    "metric of the bundle."
)
_CURVE = (
    "Solid: routes made from these requests, judged on the same requests. Dashed: judged on "
    "requests that they were not made from, which is what new requests will see."
)
_NUMBERS = (
    "Within: requests within the tolerance, of these and of others that the routes were not made "
    "from. Last: size of all weight sets. The bold row is what is chosen."
)
_MAPS = "Rest the pointer on a cell for its weight. An empty cell is an expert that sleeps."


@dataclass(frozen=True, slots=True)
class Change:
    """What other routes would bring: rows of (what, now, then), and how to build them."""

    rows: Sequence[tuple[str, str, str]]
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutesPage:
    """What the page shows.

    Attributes:
        name: of the bundle's model.
        routes: in the order shown.
        report: of those routes.
        tolerance: the predicted error up to which a route is run.
        set_bytes: of one route's weight set.
        merges: whether the bundle merges exact weights for what is past the tolerance.
        requests: what was judged, such as "64 calibration requests".
        change: from the bundle's routes to those shown, if they are not the same.
    """

    name: str
    routes: Sequence[Route]
    report: RouteReport
    tolerance: float
    set_bytes: int
    merges: bool
    requests: str
    change: Change | None = None


def routes_page(shown: RoutesPage) -> str:
    """The page as text; it needs no other file and no network."""
    served = shown.report.served
    past = "merged on demand" if shown.merges else "run the nearest route"
    facts = [
        ("routes", str(len(shown.routes))),
        (f"of requests within the tolerance of {percent(shown.tolerance)}",
         f"{100 * served.hit_rate:.0f} %"),
        ("mean predicted error", percent(served.mean)),
        ("95 % of requests are within", percent(served.p95)),
        (f"of weight sets, {_size(1, shown)} each", _size(len(shown.routes), shown)),
        ("past the tolerance", past),
    ]  # fmt: skip
    parts = [
        f"<h1>Routes of {text(shown.name)}</h1>",
        f'<p class="soft">{text(_ERROR)} Judged on {text(shown.requests)}.</p>',
        tiles(facts),
    ]
    if shown.change is not None:
        parts.append(_change(shown.change))
    parts += [
        '<h2>How many routes</h2><div class="cards">',
        _curve(shown),
        _card("The same in numbers", _NUMBERS, _numbers(shown)),
        _distances(shown),
        _categories(shown),
        "</div>",
        "<h2>Which experts each route wakes</h2>",
        f'<p class="soft">{_MAPS}</p>',
        tag("div", "".join(_map(route) for route in shown.routes), class_="maps"),
    ]
    return page(f"Routes of {shown.name}", parts)


def _curve(shown: RoutesPage) -> str:
    report = shown.report

    def line(name: str, rows: Sequence[CurveRow], value: str, kind: str) -> Line:
        points = [(row.routes, getattr(row, value)) for row in rows]
        return Line(name, [point for point in points if point[1] > NOTHING], kind)

    lines = [
        line("mean", report.curve, "mean", "mean"),
        line("95th percentile", report.curve, "p95", "p95"),
        line("mean, other requests", report.held_out, "mean", "mean other"),
        line("95th percentile, other requests", report.held_out, "p95", "p95 other"),
    ]
    lines = [one for one in lines if one.points]
    count = len(shown.routes)
    upright = [Mark("chosen, knee" if report.knee == count else "chosen", count, "chosen")]
    if report.knee not in {None, count}:
        upright.append(Mark("knee", report.knee or 1, "knee"))
    bend = (
        f"The knee is at {report.knee} routes: past it, another doubling brings less."
        if report.knee
        else "There is no knee: every doubling of the routes brings about as much."
    )
    chart = line_chart(
        lines,
        [Mark("tolerance", shown.tolerance, "limit")],
        upright,
        "routes K",
        "predicted error (% of velocity)",
    )
    return _card("Error against the number of routes", f"{_CURVE} {bend}", legend(lines) + chart)


def _distances(shown: RoutesPage) -> str:
    chart = histogram(
        shown.report.errors,
        Mark("tolerance", shown.tolerance, "limit"),
        "predicted error (% of velocity)",
        "requests",
    )
    told = "Left of the line a request runs its nearest route; right of it, it is "
    past = "merged for." if shown.merges else "served with a warning, or refused if asked to be."
    return _card("How far requests are from their nearest route", told + past, chart)


def _categories(shown: RoutesPage) -> str:
    chart = share_bars(shown.report.categories, "requests within the tolerance (%)", "requests")
    return _card("Which kinds of object the routes serve", "Share of each category.", chart)


def _numbers(shown: RoutesPage) -> str:
    other = {row.routes: row for row in shown.report.held_out}
    rows = [
        [
            str(row.routes),
            *(percent(value) for value in (row.mean, row.median, row.p95, row.largest)),
            f"{100 * row.hit_rate:.0f} %",
            f"{100 * other[row.routes].hit_rate:.0f} %" if row.routes in other else "",
            _size(row.routes, shown).split()[0],
        ]
        for row in shown.report.curve
    ]
    counts = [row.routes for row in shown.report.curve]
    chosen = counts.index(len(shown.routes)) if len(shown.routes) in counts else None
    head = [
        "routes",
        "mean",
        "median",
        "95 %",
        "largest",
        "within",
        "others",
        _size(1, shown).split()[1],
    ]
    return table(head, rows, chosen)


def _change(change: Change) -> str:
    rows: list[Sequence[str]] = list(change.rows)
    return (
        "<h2>What would change</h2>"
        + table(["", "now", "then"], rows)
        + f"<p>The page shows the routes as they would be. To build them: "
        f"<code>{text(change.command)}</code></p>"
    )


def _map(route: Route) -> str:
    told = f"{route.members} requests, mean error {percent(route.predicted_error)}"
    return _card(route.name, told, heat_map(route.table))


def _card(name: str, told: str, content: str) -> str:
    caption = tag("figcaption", tag("b", text(name)) + tag("span", text(told)))
    return tag("figure", caption + content)


def _size(routes: int, shown: RoutesPage) -> str:
    """Of that many weight sets, in one unit on the whole page."""
    unit, name = (1e9, "GB") if shown.set_bytes >= 1e9 else (1e6, "MB")
    size = routes * shown.set_bytes / unit
    return f"{size:,.{1 if size < 100 else 0}f} {name}"

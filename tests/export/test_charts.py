"""Pictures of numbers: what is drawn is where the numbers say, and the pages hold themselves."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from a2edit.calibration.report import RouteReport, route_report
from a2edit.calibration.routes import Route, RouteSample
from a2edit.export.charts import Line, Mark, histogram, line_chart, share_bars
from a2edit.export.heatmap import heat_map
from a2edit.export.routes_page import Change, RoutesPage, routes_page
from a2edit.export.svg import number, percent, tag, text
from a2edit.runtime.metric import RouteMetric

L, N = 3, 4
METRIC = RouteMetric(np.stack([np.eye(N)] * L), float(L))


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def of_class(svg: str, name: str) -> list[ET.Element]:
    return [one for one in parsed(svg).iter() if name in one.get("class", "").split()]


def test_tags_escape_what_they_are_given() -> None:
    assert tag("a", text("<&>"), b='"x"', class_="c", stroke_width=1.0) == (
        '<a b="&quot;x&quot;" class="c" stroke-width="1">&lt;&amp;&gt;</a>'
    )
    assert tag("rect", x=-0.001, y=12.345) == '<rect x="0" y="12.35"/>'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.123, "12 %"),
        (0.0123, "1.2 %"),
        (0.01, "1 %"),
        (2e-5, "0.002 %"),
    ],
)
def test_percent(value: float, shown: str) -> None:
    assert percent(value) == shown
    assert number(0.1) == "0.1"


@pytest.mark.parametrize("axes", [True, False])
def test_a_heat_map_shows_every_cell(axes: bool) -> None:
    table = np.array([[0.5, 0.0], [0.2, 0.3]], np.float32)
    svg = heat_map(table, axes=axes)
    assert svg.count('class="ground"') == 4
    titles = [one.text for one in parsed(svg).iter("title")]
    assert titles == [
        "block 0, expert 0: 0.500",
        "block 1, expert 0: 0.200",
        "block 1, expert 1: 0.300",
    ]
    shades = [
        float(one.get("opacity", "1"))
        for one in of_class(svg, "on")
        if one.find("title") is not None
    ]
    assert shades == pytest.approx([1.0, 0.4, 0.6], abs=1e-3)
    assert ("block" in {one.text for one in parsed(svg).iter("text")}) == axes


def test_a_tall_heat_map_numbers_every_fifth_block() -> None:
    svg = heat_map(np.full((57, 8), 0.1, np.float32))
    shown = [one.text for one in of_class(svg, "end")]
    assert [name for name in shown if name and name.isdigit()] == [
        str(block) for block in range(0, 57, 5)
    ] + ["0"]


def test_points_lie_where_their_values_say() -> None:
    line = Line("mean", [(1, 0.1), (4, 0.01), (16, 0.001), (32, 0.0)], "mean")
    svg = line_chart([line], [Mark("limit", 0.01, "limit")], [Mark("k", 4, "chosen")], "x", "y")
    dots = of_class(svg, "dot")
    assert len(dots) == 3  # zero has no place on a logarithmic scale
    x, y = ([float(dot.get(key, "")) for dot in dots] for key in ("cx", "cy"))
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.02)  # both log: equal steps
    assert y[1] - y[0] == pytest.approx(y[2] - y[1], abs=0.02)
    assert y[0] < y[1]
    (limit,), (chosen,) = of_class(svg, "limit")[:1], of_class(svg, "chosen")[:1]
    assert float(limit.get("y1", "")) == pytest.approx(y[1], abs=0.02)
    assert float(chosen.get("x1", "")) == pytest.approx(x[1], abs=0.02)


def test_a_line_of_one_point_or_none_is_drawn() -> None:
    for points in ([], [(1, 0.5)]):
        svg = line_chart([Line("mean", points, "mean")], [], [Mark("k", 1, "chosen")], "x", "y")
        assert len(of_class(svg, "dot")) == len(points)


def test_a_histogram_counts_every_value() -> None:
    values = np.array([0.0, 0.001, 0.001, 0.02, 0.05])
    svg = histogram(values, Mark("tolerance", 0.01, "limit"), "x", "y")
    counts = [int((one.findtext("title") or "").split()[0]) for one in of_class(svg, "bar")]
    assert sum(counts) == 5
    assert max(counts) == 3
    heights = [float(one.get("height", "")) for one in of_class(svg, "bar")]
    assert heights[0] / heights[-1] == pytest.approx(3, abs=0.01)
    assert histogram(np.zeros(4), Mark("tolerance", 0.0, "limit"), "x", "y")


def test_bars_are_as_long_as_their_shares() -> None:
    svg = share_bars({"a": (0.25, 4), "a name that is much too long": (1.0, 2)}, "x", "requests")
    widths = [float(one.get("width", "")) for one in of_class(svg, "bar")]
    assert widths[1] == pytest.approx(4 * widths[0], abs=0.05)
    assert "a name that is much too long: 100 % of 2 requests" in svg
    assert "a name that is…" in svg


def report(samples: int = 24) -> tuple[list[Route], RouteReport]:
    rng = np.random.default_rng(0)
    tables = rng.uniform(0, 1, (samples, L, N)).astype(np.float32)
    sample = RouteSample(tables, [f"<kind{place % 3}>" for place in range(samples)])
    routes = [Route("<r&1>", tables[0], 5, 0.1), Route("other", tables[-1], 3, 0.2)]
    return routes, route_report(np.stack([r.table for r in routes]), sample, METRIC, 0.3)


def test_the_page_holds_itself_and_repeats() -> None:
    routes, judged = report()
    shown = RoutesPage(
        name="tiny", routes=routes, report=judged, tolerance=0.3, set_bytes=10**6, merges=True,
        requests="24 requests", change=Change([("routes", "2", "3")], "build --x <y>"),
    )  # fmt: skip
    page = routes_page(shown)
    assert page == routes_page(shown)
    assert "http" not in page
    assert "src=" not in page
    assert "<script" not in page
    assert "&lt;r&amp;1&gt;" in page
    assert "<r&1>" not in page
    assert "build --x &lt;y&gt;" in page
    for svg in re.findall(r"<svg.*?</svg>", page):
        parsed(svg)
    assert page.count('class="map"') == 2
    assert len(re.findall('class="chart"', page)) == 3


def test_one_request_makes_a_page_too() -> None:
    routes, judged = report(samples=1)
    page = routes_page(
        RoutesPage(
            name="tiny", routes=routes[:1], report=judged, tolerance=0.01, set_bytes=1,
            merges=False, requests="1 request",
        )
    )  # fmt: skip
    assert "run the nearest route" in page

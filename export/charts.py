"""Line chart, bars and histogram as inline SVG.

Colours and fonts are the page's (classes `line`, `dot`, `bar`, `grid`, `tick`, `label`, `mark`), so
that one chart reads in a light and in a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2edit.export.svg import number, percent, tag, text, title

_WIDTH, _HEIGHT = 440.0, 290.0
_LEFT, _RIGHT, _TOP, _BELOW = 76.0, 12.0, 26.0, 46.0
_ACROSS, _DOWN = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BELOW


@dataclass(frozen=True, slots=True)
class Line:
    """A line of `line_chart`: points above 0, and the class that colours it."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something to find on an axis: a straight line across the chart, and a word beside it."""

    name: str
    at: float
    kind: str


def line_chart(
    lines: Sequence[Line],
    across: Sequence[Mark],
    upright: Sequence[Mark],
    x_label: str,
    y_label: str,
) -> str:
    """Shares against counts, both on logarithmic scales.

    Args:
        lines: drawn in order; points that are not above 0 have no place on the scale.
        across: marks on the y axis.
        upright: marks on the x axis.
        x_label: what is counted.
        y_label: what is shown, with its unit.
    """
    points = [point for line in lines for point in line.points if point[1] > 0]
    values = [y for _, y in points] + [mark.at for mark in across if mark.at > 0]
    counts = [x for x, _ in points] + [mark.at for mark in upright]
    low, high = min(values, default=0.01) / 1.25, max(values, default=0.01) * 1.25
    most = max(counts, default=2)

    def x(count: float) -> float:
        return _LEFT + _ACROSS * (0.03 + 0.94 * math.log2(count) / max(math.log2(most), 1))

    def y(value: float) -> float:
        return _TOP + _DOWN * math.log(high / value) / math.log(high / low)

    parts = [_frame(x_label, y_label)]
    parts += [_level(y(value), percent(value)) for value in _log_ticks(low, high)]
    parts += [
        _words(str(1 << power), x(1 << power), _TOP + _DOWN + 16, "tick middle")
        for power in range(int(math.log2(most)) + 1)
    ]
    words = []
    for mark in across:
        if mark.at <= 0:
            continue
        parts.append(_rule(mark, _LEFT, y(mark.at), _LEFT + _ACROSS, y(mark.at)))
        # At the end where the lines are farther away.
        left, right = (
            min((abs(y(line.points[end][1]) - y(mark.at) + 9) for line in lines
                 if line.points and line.points[end][1] > 0), default=0.0)
            for end in (0, -1)
        )  # fmt: skip
        at, side = (_LEFT + 4, "") if left > right else (_LEFT + _ACROSS, "end")
        words.append(_words(mark.name, at, y(mark.at) - 5, f"label {mark.kind} {side}"))
    for place, mark in enumerate(sorted(upright, key=lambda one: one.at)):
        at, height = x(mark.at), _TOP - 5 - 13 * (place % 2)
        parts.append(_rule(mark, at, _TOP, at, _TOP + _DOWN))
        parts.append(_words(mark.name, at, height, f"label {mark.kind} {_side(at)}"))
    for line in lines:
        shown = [point for point in line.points if point[1] > 0]
        path = " ".join(f"{number(x(k))},{number(y(v))}" for k, v in shown)
        parts.append(tag("polyline", points=path, class_=f"line {line.kind}"))
        for count, value in shown:
            told = title(f"{line.name}: {percent(value)} with {number(count)} routes")
            parts.append(tag("circle", told, cx=x(count), cy=y(value), r=3.5,
                             class_=f"dot {line.kind}"))  # fmt: skip
    return _chart([*parts, *words], f"{y_label} against {x_label}")


def histogram(
    values: NDArray[np.float64], mark: Mark, x_label: str, y_label: str, bins: int = 24
) -> str:
    """How many values lie where, on a linear scale from 0; `mark` on the x axis."""
    most = max(float(values.max(initial=0)), mark.at, 1e-9) * 1.04
    counts, edges = np.histogram(values, bins, (0, most))
    step = _nice(max(int(counts.max(initial=0)), 1) / 4, whole=True)
    high = max(step * math.ceil(int(counts.max(initial=0)) / step), step)
    parts = [_frame(x_label, y_label)]
    parts += [
        _level(_TOP + _DOWN * (1 - place * step / high), number(place * step))
        for place in range(round(high / step) + 1)
    ]
    width = _nice(most / 5)
    for place in range(int(most / width) + 1):
        at = _LEFT + _ACROSS * place * width / most
        parts.append(_words(percent(place * width), at, _TOP + _DOWN + 16, "tick middle"))
    for count, first, last in zip(counts.tolist(), edges, edges[1:], strict=False):
        if count:
            tall = _DOWN * count / high
            told = title(f"{count} between {percent(float(first))} and {percent(float(last))}")
            parts.append(tag("rect", told, x=_LEFT + _ACROSS * first / most + 0.5,
                             y=_TOP + _DOWN - tall, width=_ACROSS / bins - 1, height=tall,
                             class_="bar mean"))  # fmt: skip
    at = _LEFT + _ACROSS * mark.at / most
    parts.append(_rule(mark, at, _TOP, at, _TOP + _DOWN))
    parts.append(_words(mark.name, at, _TOP - 6, f"label {mark.kind} {_side(at)}"))
    return _chart(parts, f"{y_label} against {x_label}")


def share_bars(rows: Mapping[str, tuple[float, int]], x_label: str, unit: str) -> str:
    """One bar a name: a share from 0 to 100 %, and of how many `unit`."""
    left, tall, right = 112.0, 24.0, 92.0
    across, down = _WIDTH - left - right, tall * len(rows)
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = left + across * share
        parts.append(tag("line", x1=at, x2=at, y1=6.0, y2=6 + down, class_="grid"))
        parts.append(_words(f"{100 * share:.0f} %", at, down + 22, "tick middle"))
    for place, (name, (share, count)) in enumerate(rows.items()):
        top = 6 + place * tall
        shown = name if len(name) <= 15 else f"{name[:14]}…"
        told = title(f"{name}: {percent(share)} of {count} {unit}")
        bar = {"x": left, "y": top + 4, "height": tall - 8}
        parts.append(tag("rect", told, **bar, width=across, class_="ground"))
        parts.append(tag("rect", told, **bar, width=across * share, class_="bar mean"))
        parts.append(_words(shown, left - 8, top + 16, "tick end"))
        parts.append(_words(f"{100 * share:.0f} % of {count}", left + across + 6, top + 16, "tick"))
    parts.append(_words(x_label, left + across / 2, down + 42, "label middle"))
    return _chart(parts, x_label, down + 50)


def error_bars(rows: Mapping[str, tuple[float, float]], x_label: str) -> str:
    """A bar a name, from 0, with a thin one of a second figure below it."""
    left, tall, right, width = 300.0, 22.0, 60.0, 760.0
    across, down = width - left - right, tall * len(rows)
    most = max((value for pair in rows.values() for value in pair), default=0) or 1.0
    step, parts = _nice(most / 5), []
    for place in range(int(most / step) + 1):
        at = left + across * place * step / most
        parts.append(tag("line", x1=at, x2=at, y1=6.0, y2=6 + down, class_="grid"))
        parts.append(_words(percent(place * step), at, down + 22, "tick middle"))
    for place, (name, (first, second)) in enumerate(rows.items()):
        top = 6 + place * tall
        told = title(f"{name}: {percent(first)}, {percent(second)}")
        for value, kind, y, height in ((first, "mean", 4, 9), (second, "p95", 14, 4)):
            parts.append(tag("rect", told, x=left, y=top + y, height=float(height),
                             width=across * value / most, class_=f"bar {kind}"))  # fmt: skip
        parts.append(_words(name, left - 8, top + 15, "tick end"))
        parts.append(_words(percent(first), left + across * first / most + 6, top + 13, "tick"))
    parts.append(_words(x_label, left + across / 2, down + 42, "label middle"))
    return _chart(parts, x_label, down + 50, width)


def legend(lines: Sequence[Line]) -> str:
    """The names of lines beside a stroke of each."""
    return tag(
        "p",
        "".join(
            tag("span", tag("svg", tag("line", x1=0.0, x2=22.0, y1=5.0, y2=5.0,
                                       class_=f"line {line.kind}"), viewBox="0 0 22 10",
                            class_="stroke") + text(line.name))
            for line in lines
        ),
        class_="legend",
    )  # fmt: skip


def _chart(parts: Sequence[str], label: str, height: float = _HEIGHT, width: float = _WIDTH) -> str:
    box = f"0 0 {number(width)} {number(height)}"
    kind = "chart" if width == _WIDTH else "chart broad"
    return tag("svg", "".join(parts), viewBox=box, class_=kind, role="img", aria_label=label)


def _frame(x_label: str, y_label: str) -> str:
    middle = _TOP + _DOWN / 2
    turned = tag("text", text(y_label), x=12.0, y=middle, class_="label middle",
                 transform=f"rotate(-90 12 {number(middle)})")  # fmt: skip
    return turned + _words(x_label, _LEFT + _ACROSS / 2, _HEIGHT - 9, "label middle")


def _level(y: float, name: str) -> str:
    line = tag("line", x1=_LEFT, x2=_LEFT + _ACROSS, y1=y, y2=y, class_="grid")
    return line + _words(name, _LEFT - 6, y + 4, "tick end")


def _rule(mark: Mark, x1: float, y1: float, x2: float, y2: float) -> str:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=f"mark {mark.kind}")


def _side(x: float) -> str:
    """Words beside a mark begin at it, or end at it where there is no room to the right."""
    return "end" if x > _LEFT + 0.6 * _ACROSS else ""


def _words(value: str, x: float, y: float, kind: str) -> str:
    return tag("text", text(value), x=x, y=y, class_=kind.strip())


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 of every power of ten within the range, or the powers alone if those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    shown = [value for value in found if low <= value <= high]
    return shown if len(shown) <= 9 else [v for v in shown if str(f"{v:e}").startswith("1")]


def _nice(step: float, *, whole: bool = False) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    found = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= step * (1 - 1e-9))
    return max(found, 1.0) if whole else found

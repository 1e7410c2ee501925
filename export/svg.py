"""SVG and HTML as text: the few lines that our pages need, and how they write numbers."""

from __future__ import annotations

import html


def tag(name: str, content: str = "", /, **attributes: str | float) -> str:
    """<name …>content</name>; numbers to two decimals, `class_` and `stroke_width` as in Python.

    `content` is markup: pass text through `text`.
    """
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{listed}>{content}</{name}>" if content else f"<{name}{listed}/>"


def text(value: str) -> str:
    """Text as markup."""
    return html.escape(value)


def title(value: str) -> str:
    """What a browser shows when the pointer rests on the element around it."""
    return tag("title", text(value))


def percent(value: float) -> str:
    """A share as percent, to two digits that count: 0.0123 → "1.2 %"."""
    shown = 100 * value
    return f"{shown:.0f} %" if abs(shown) >= 10 else f"{shown:.2g} %"


def number(value: float) -> str:
    """At most two decimals, none that say nothing."""
    shown = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def _value(value: str | float) -> str:
    return html.escape(value) if isinstance(value, str) else number(value)

"""How a bundle's pages look: one style, light and dark, without a file or a network."""

from __future__ import annotations

from collections.abc import Sequence

from a2edit.export.svg import tag, text

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5d6676; --paper: #fbfbfa;
  --card: #fff; --line: #dfe2e8; --one: #1f66c1; --two: #b4531a; --three: #2b7a4b }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e8ea; --soft: #a0a8b5; --paper: #14161b;
  --card: #1c1f26; --line: #343a46; --one: #6ea8f5; --two: #f0a06a; --three: #6cc48e } }
* { box-sizing: border-box }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper) }
main { max-width: 70rem; margin: 0 auto; padding: 1.6rem 1rem 3rem }
h1 { margin: 0 0 .3rem; font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.15rem }
p { max-width: 46rem; margin: .4rem 0 } .soft { color: var(--soft) }
a { color: var(--one) }
code { font-size: .9em; overflow-wrap: anywhere }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: 600; vertical-align: bottom }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line) }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
tr.chosen td { font-weight: 650 }
.tiles { display: grid; gap: .7rem; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)) }
.tiles div, .cards figure { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; padding: .7rem .9rem }
.tiles b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums }
.tiles span { color: var(--soft); font-size: .85rem }
.cards { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)) }
.maps { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)) }
.maps figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .7rem .9rem }
.cards table { font-size: .85rem } .cards th, .cards td { padding: .3rem .45rem .3rem 0 }
.cards th:last-child, .cards td:last-child { padding-right: 0 }
figure { margin: 0; min-width: 0 } figcaption { margin-bottom: .5rem }
figcaption span { display: block; color: var(--soft); font-size: .85rem }
svg.chart { display: block; width: 100%; max-width: 34rem; margin: 0 auto }
svg.chart.broad { max-width: 56rem; margin: 0 }
h3 { margin: 1.4rem 0 .5rem; font-size: 1rem } h3 span { color: var(--soft); font-weight: 400 }
.shots { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fit, minmax(9rem, 13rem)) }
.shots img { display: block; width: 100%; border-radius: 6px; background: var(--line);
  image-rendering: pixelated }
.shots figcaption { margin: .25rem 0 0; font-size: .85rem }
.over { border: 1px solid var(--two); border-radius: 10px; padding: .6rem .9rem; max-width: 46rem }
.over b { color: var(--two) } .over ul { margin: .3rem 0 0; padding-left: 1.1rem }
svg.map { display: block; width: 100%; max-width: 17rem }
svg.stroke { width: 22px; height: 10px; margin-right: .4rem }
.legend { margin: 0 0 .4rem; font-size: .85rem }
.legend span { display: inline-block; margin-right: 1rem; white-space: nowrap }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink) }
@media (max-width: 34rem) { svg.chart text { font-size: 15px } }
svg .tick { fill: var(--soft); font-variant-numeric: tabular-nums }
svg .label { paint-order: stroke; stroke: var(--card); stroke-width: 3px }
svg .middle { text-anchor: middle } svg .end { text-anchor: end }
.grid { stroke: var(--line) }
.line { fill: none; stroke-width: 2 } .dot { stroke: var(--card); stroke-width: 1 }
.line.mean { stroke: var(--one) } .dot.mean, .bar.mean { fill: var(--one) }
.line.p95 { stroke: var(--two) } .dot.p95, .bar.p95 { fill: var(--two) }
.line.other { stroke-dasharray: 5 4 }
.mark { stroke-width: 1.5 } .mark.limit { stroke: var(--three); stroke-dasharray: 6 3 }
.mark.chosen { stroke: var(--ink); stroke-dasharray: 2 3 }
.mark.knee { stroke: var(--soft); stroke-dasharray: 2 3 }
svg .label.limit { fill: var(--three) } svg .label.knee { fill: var(--soft) }
rect.ground { fill: var(--line); opacity: .5 } rect.on { fill: var(--one) }
"""


def page(name: str, parts: Sequence[str]) -> str:
    """A whole HTML file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(name)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], chosen: int | None = None) -> str:
    """Words in the first column, numbers in the others; one row may stand out."""
    kinds = ["", *["n"] * (len(head) - 1)]
    lines = [tag("tr", _cells("th", head, kinds))]
    for place, row in enumerate(rows):
        kind = ' class="chosen"' if place == chosen else ""
        lines.append(f"<tr{kind}>{_cells('td', row, kinds)}</tr>")
    return tag("div", f"<table>{''.join(lines)}</table>", class_="wide")


def tiles(facts: Sequence[tuple[str, str]]) -> str:
    """Figures with what they are."""
    shown = "".join(
        tag("div", tag("b", text(value)) + tag("span", text(name))) for name, value in facts
    )
    return tag("div", shown, class_="tiles")


def _cells(name: str, row: Sequence[str], kinds: Sequence[str]) -> str:
    return "".join(
        tag(name, text(cell) or " ", **({"class_": kind} if kind else {}))
        for cell, kind in zip(row, kinds, strict=True)
    )

"""report/index.html: one self-contained page of what a build made and how exact it is.

Nothing in it depends on when or how fast the build ran, so that rebuilds repeat byte for byte.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
  color: #1d2430; background: #fbfbfa }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem; border-bottom: 1px solid #d8dce3 }
table { border-collapse: collapse; width: 100% } th { text-align: left; font-weight: 600 }
th, td { padding: .25rem .7rem .25rem 0; border-bottom: 1px solid #e8eaee }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.maps { display: flex; flex-wrap: wrap; gap: 1.4rem } figure { margin: 0 }
figcaption { font-size: 13px }
.maps table { width: auto }
.maps td, .maps th { width: 2.4em; height: 1.6em; padding: 0; border: 1px solid #fff;
  font-size: 11px; text-align: center }
"""

_ERRORS = (
    "Errors are relative to the PyTorch model with unmerged experts: ‖engine − truth‖ / ‖truth‖; "
    "a route's is the largest velocity error over three noise levels."
)
_MAPS = "Rows are blocks, columns experts; an empty cell is an expert that sleeps."


def report_page(
    name: str,
    sizes: Mapping[str, int],
    routes: Sequence[Route],
    verification: Mapping[str, Any],
    precision: Mapping[str, Any],
    tools: Mapping[str, str],
) -> str:
    """The page.

    Args:
        name: of the model.
        sizes: bytes of every file of the bundle.
        routes: with their tables.
        verification: relative errors and tolerances by graph and by route.
        precision: as in the manifest.
        tools: versions.
    """
    graphs = [
        [graph, precision["graphs"][graph], *_figure(verification["graphs"].get(graph))]
        for graph in sorted(precision["graphs"])
    ]
    table = [
        [
            route.name,
            str(route.members),
            f"{route.predicted_error:.2%}",
            *_figure(verification["routes"].get(route.name)),
        ]
        for route in routes
    ]
    total = sum(sizes.values())
    parts = [
        f"<h1>{html.escape(name)}</h1><p>{len(routes)} routes, {total / 1e6:.1f} MB. {_ERRORS}</p>",
        "<h2>Routes</h2>",
        _table(["route", "members", "predicted error", "measured error", "allowed"], table),
        f"<h2>Expert weights</h2><p>{_MAPS}</p>",
        f'<div class="maps">{"".join(_map(route) for route in routes)}</div>',
        "<h2>Graphs</h2>",
        _table(["graph", "precision", "measured error", "allowed"], graphs),
        "<h2>Files</h2>",
        _table(["file", "kB"], [[file, f"{size / 1e3:,.0f}"] for file, size in sizes.items()]),
        "<h2>Made with</h2>",
        _table(["tool", "version"], [[tool, found] for tool, found in sorted(tools.items())]),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(name)}'
        f"</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _figure(entry: Mapping[str, float] | None) -> tuple[str, str]:
    if entry is None:
        return "see routes", ""
    return f"{entry['relative_error']:.1e}", f"{entry['tolerance']:.0e}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{"n" if place else ""}">{html.escape(cell)}</td>'
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def _map(route: Route) -> str:
    peak = max(float(route.table.max()), 1e-9)
    head = "".join(f"<th>{expert}</th>" for expert in range(route.table.shape[1]))
    rows = []
    for block, row in enumerate(route.table.tolist()):
        cells = "".join(
            f'<td style="background:hsl(212 70% {97 - 52 * weight / peak:.0f}%)">'
            f"{f'{weight:.2f}'.lstrip('0') if weight else ''}</td>"
            for weight in row
        )
        rows.append(f"<tr><th>{block}</th>{cells}</tr>")
    return (
        f"<figure><table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
        f"<figcaption>{html.escape(route.name)}</figcaption></figure>"
    )

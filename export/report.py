"""report/index.html: one self-contained page of what a build made and how exact it is.

Nothing in it depends on when or how fast the build ran, so that rebuilds repeat byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from a2edit.export.style import page, table
from a2edit.export.svg import text

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route

_ERRORS = (
    "Errors are relative to the PyTorch model with unmerged experts: ‖engine − truth‖ / ‖truth‖; "
    "a route's is the largest velocity error over three noise levels."
)
_ROUTES = (
    "How far requests are from these routes, and what more of them would bring, is in <a "
    'href="routes.html">routes.html</a>.'
)


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
        verification: relative errors and tolerances by target, then by graph and by route.
        precision: as in the manifest.
        tools: versions.
    """
    total = sum(sizes.values())
    parts = [
        f"<h1>{text(name)}</h1><p>{len(routes)} routes, {total / 1e6:.1f} MB. {_ERRORS}</p>",
    ]
    for target, figures in sorted(verification.items()):
        computed = precision["targets"][target]
        parts += [
            f"<h2>{text(target)}: routes</h2><p>{_ROUTES}</p>",
            table(
                ["route", "members", "predicted error", "measured error", "allowed"],
                [
                    [
                        route.name,
                        str(route.members),
                        f"{route.predicted_error:.2%}",
                        *_figure(figures["routes"].get(route.name)),
                    ]
                    for route in routes
                ],
            ),
            f"<h2>{text(target)}: graphs</h2>",
            table(
                ["graph", "precision", "measured error", "allowed"],
                [
                    [graph, computed[graph], *_figure(figures["graphs"].get(graph))]
                    for graph in sorted(computed)
                ],
            ),
        ]
    parts += [
        "<h2>Files</h2>",
        table(["file", "kB"], [[file, f"{size / 1e3:,.0f}"] for file, size in sizes.items()]),
        "<h2>Made with</h2>",
        table(["tool", "version"], [[tool, found] for tool, found in sorted(tools.items())]),
    ]
    return page(name, parts)


def _figure(entry: Mapping[str, float] | None) -> tuple[str, str]:
    if entry is None:
        return "see routes", ""
    return f"{entry['relative_error']:.1e}", f"{entry['tolerance']:.0e}"

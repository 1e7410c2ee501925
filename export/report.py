"""report/index.html: one self-contained page of what a build made and how exact it is.

Nothing in it depends on when or how fast the build ran, so that rebuilds repeat byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from a2edit.export.charts import Line, error_bars, legend
from a2edit.export.gallery import Shown, gallery
from a2edit.export.pixels import ZONES
from a2edit.export.style import page, table, tiles
from a2edit.export.svg import percent, tag, text

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route

_SHOWN_LAYERS = 24
_ERRORS = (
    "Errors are relative to the PyTorch model in fp32 with unmerged experts: ‖engine − truth‖ / "
    "‖truth‖; a route's is the largest velocity error over three noise levels. Pictures are "
    "compared at the end of the whole loop, as the decoder gives them, before they are laid over "
    "the source: outside of the mask an edit is the source itself. All of it on requests that "
    "nothing was calibrated on; figures are the worst of them."
)
_ROUTES = (
    "How far requests are from these routes, and what more of them would bring, is in <a "
    'href="routes.html">routes.html</a>.'
)
_CACHE = (
    "What <code>a2edit-run --cache first-block</code> changes, at its threshold of {:g}: every "
    "picture with the cache beside the one without, of the same route and engines. Whole steps "
    "are those of the denoiser in two that skip nothing, against the PyTorch model."
)
_MERGED = (
    "What is past the tolerance is merged on demand from a base in 8 bits: {} of {} routed linears "
    "have theirs rounded. Routes merged from it, beside the same truth as those built ahead:"
)
_LAYERS = (
    "Every routed linear at the loop's last step. Its own error is taken against torch's linear on "
    "the very input that it got here; the total one has what came before it too."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the page tells.

    Attributes:
        name: of the model.
        sizes: bytes of every file of the bundle.
        routes: with their tables.
        verification, precision, tools: as in the manifest.
        shown: pictures of held-out requests.
    """

    name: str
    sizes: Mapping[str, int]
    routes: Sequence[Route]
    verification: Mapping[str, Any]
    precision: Mapping[str, Any]
    tools: Mapping[str, str]
    shown: Sequence[Shown]


def report_page(report: Report) -> str:
    """The page."""
    total = sum(report.sizes.values()) / 1e6
    about = {name: kinds["dit"] for name, kinds in report.precision["targets"].items()}
    figures = [*_worst(report), ("routes", str(len(report.routes))), ("MB", f"{total:,.1f}")]
    parts = [
        f"<h1>{text(report.name)}</h1><p>{_ERRORS}</p>",
        tiles([(name, value) for name, value in figures]),
        "<h2>Pictures</h2>",
        gallery(report.shown, about),
    ]
    for target in sorted(report.verification):
        parts += _target(report, target)
    parts += [
        "<h2>Files</h2>",
        table(
            ["file", "kB"], [[file, f"{size / 1e3:,.0f}"] for file, size in report.sizes.items()]
        ),
        "<h2>Made with</h2>",
        table(["tool", "version"], [[tool, found] for tool, found in sorted(report.tools.items())]),
    ]
    return page(report.name, parts)


def _worst(report: Report) -> list[tuple[str, str]]:
    """Of every target the largest velocity error and the worst picture in the mask."""
    found = []
    for target, figures in sorted(report.verification.items()):
        routes = figures["routes"].values()
        error = max(figure["relative_error"] for figure in routes)
        worst = min(figure["pictures"]["mask"]["psnr_db"] for figure in routes)
        found.append((f"{target}: largest velocity error", percent(error)))
        found.append((f"{target}: worst picture in the mask", f"{worst:.1f} dB"))
    return found


def _target(report: Report, target: str) -> list[str]:
    figures, kinds = report.verification[target], report.precision["targets"][target]
    parts = [
        f"<h2>{text(target)}, {text(kinds['dit'])}</h2>",
        f"<p>Run by {text(figures['runner'])}.</p>",
    ]
    if accepted := figures.get("accepted"):
        listed = "".join(tag("li", text(said)) for said in accepted)
        parts.append(f'<div class="over"><b>Accepted out of tolerance</b><ul>{listed}</ul></div>')
    parts += [
        f"<h3>Routes</h3><p>{_ROUTES}</p>",
        table(
            [
                *("route", "members", "predicted error", "measured", "allowed"),
                *("PSNR in mask", "needed", "around it", "outside", "SSIM in mask"),
            ],
            [_route(route, figures["routes"][route.name]) for route in report.routes],
        ),
        "<h3>Graphs</h3>",
        table(
            ["graph", "precision", "measured", "allowed", "products, as compiled"],
            [
                [
                    graph,
                    kind,
                    *_figure(figures["graphs"].get(graph)),
                    _products(report.precision["products"][target], graph),
                ]
                for graph, kind in sorted(kinds.items())
            ],
        ),
    ]
    if merged := figures.get("merged"):
        parts += _merged(merged, report.precision)
    if cache := figures.get("step_cache"):
        parts += _step_cache(cache)
    if layers := figures.get("layers"):
        parts += [f"<h3>Error per layer</h3><p>{_LAYERS}</p>", _layers(layers)]
    return parts


def _route(route: Route, figure: Mapping[str, Any]) -> list[str]:
    inside, around, outside = _psnr(figure["pictures"])
    return [
        route.name,
        str(route.members),
        f"{route.predicted_error:.2%}",
        *_figure(figure),
        inside,
        f"{figure['least_psnr_db']:g} dB",
        around,
        outside,
        f"{figure['pictures']['mask']['ssim']:.4f}",
    ]


def _merged(figures: Mapping[str, Any], precision: Mapping[str, Any]) -> list[str]:
    """Of routes merged from a base in 8 bits."""
    said = _MERGED.format(len(precision["merge_base"]["eight"]), precision["routed_linears"])
    heads = ["route", "measured", "allowed", "PSNR in mask", "needed", "around it", "outside"]
    rows = []
    for route, figure in figures.items():
        inside, *others = _psnr(figure["pictures"])
        least = f"{figure['least_psnr_db']:g} dB"
        rows.append([route, *_figure(figure), inside, least, *others])
    return [f"<h3>Merged on demand</h3><p>{said}</p>", table(heads, rows)]


def _step_cache(cache: Mapping[str, Any]) -> list[str]:
    parts = [f"<h3>Step cache</h3><p>{_CACHE.format(cache['threshold'])}</p>"]
    if over := cache.get("over"):
        listed = "".join(tag("li", text(said)) for said in over)
        parts.append(f'<div class="over"><b>Changes much</b><ul>{listed}</ul></div>')
    heads = ["route", "steps skipped", "whole steps, measured", "allowed"]
    pictures = ["PSNR in mask", "around it", "outside", "SSIM in mask"]
    rows = [
        [
            route,
            f"{figure['skipped']:.0%}",
            *_figure(figure),
            *_psnr(figure["pictures"]),
            f"{figure['pictures']['mask']['ssim']:.4f}",
        ]
        for route, figure in cache["routes"].items()
    ]
    return [*parts, table([*heads, *pictures], rows)]


def _psnr(pictures: Mapping[str, Any]) -> list[str]:
    """By zone: in the mask, around it, outside; nothing for a zone that is empty."""
    return [f"{pictures[zone]['psnr_db']:.1f} dB" if zone in pictures else "" for zone in ZONES]


def _products(products: Mapping[str, Any], graph: str) -> str:
    """The counts of a graph's engine, or of its first where every route has one."""
    found = next(found for name, found in products.items() if name.partition(".")[0] == graph)
    counted = [
        f"{count} {kind} {types}"
        for kind in ("linear", "convolution", "attention")
        for types, count in found[kind].items()
    ]
    over = f" (over {found['profiles']} sizes)" if found["profiles"] > 1 else ""
    return ", ".join(counted) + over


def _layers(layers: Sequence[Mapping[str, Any]]) -> str:
    rows = {layer["name"]: (layer["own"], layer["total"]) for layer in layers[:_SHOWN_LAYERS]}
    lines = [Line("own error", [], "mean"), Line("total error", [], "p95")]
    rest = len(layers) - len(rows)
    more = f'<p class="soft">{rest} more have smaller ones.</p>' if rest else ""
    return legend(lines) + error_bars(rows, "relative error of the linear's output") + more


def _figure(figure: Mapping[str, float] | None) -> tuple[str, str]:
    if figure is None:  # the denoiser: its figures are its routes'
        return "by route", ""
    return f"{figure['relative_error']:.1e}", f"{figure['tolerance']:.0e}"

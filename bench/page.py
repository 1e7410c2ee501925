"""The demo's page: one HTML file that holds its pictures, figures first, a card for every edit."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from a2edit.bench.figures import CaseFigures, Edited, Figures
from a2edit.export.heatmap import heat_map
from a2edit.runtime.sheet import masked

SHOWN = 420  # pixels of a picture's longer side on the page

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --paper: #f6f5f2; --card: #fff;
  --line: #e4e2dc; --accent: #c2412d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9e7e2; --soft: #9aa1ae; --paper: #14161b;
  --card: #1d2027; --line: #30343d; --accent: #f0806b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
p.lead { max-width: 46rem; color: var(--soft); margin: 0 0 1.75rem; }
dl.tiles { display: grid; gap: .75rem; margin: 0 0 2rem;
  grid-template-columns: repeat(auto-fit, minmax(145px, 1fr)); }
dl.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: .9rem 1rem; display: flex; flex-direction: column-reverse; justify-content: flex-end; }
dl.tiles dt { color: var(--soft); font-size: .85rem; }
dl.tiles dd { margin: 0; font-size: 1.55rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.cards { display: grid; gap: 1.1rem; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); }
article { background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  overflow: hidden; display: flex; flex-direction: column; }
.swap { position: relative; margin: 0; aspect-ratio: 4 / 3; background: var(--line); }
.swap img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain;
  transition: opacity .2s; }
.swap:hover img + img, .swap:focus img + img { opacity: 0; }
.swap figcaption { position: absolute; left: .6rem; bottom: .6rem; padding: .05rem .5rem;
  border-radius: 99px; background: #000a; color: #fff; font-size: .72rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr 1fr; border-top: 1px solid var(--line); }
.pair figure { margin: 0; padding: .5rem; text-align: center; }
.pair img, .pair svg { width: 100%; height: 104px; object-fit: contain; display: block; }
.pair img { background: #fff; border-radius: 6px; }
.pair figcaption { color: var(--soft); font-size: .72rem; margin-top: .25rem; }
.text { padding: .75rem 1rem 1rem; border-top: 1px solid var(--line); }
h2 { font-size: 1rem; margin: 0 0 .15rem; }
.text p { margin: 0; color: var(--soft); font-size: .84rem; font-variant-numeric: tabular-nums; }
rect.on { fill: var(--accent); } rect.ground { fill: var(--line); opacity: .45; }
footer { margin-top: 2rem; color: var(--soft); font-size: .84rem; }
code { font-size: .92em; overflow-wrap: anywhere; }
"""


def demo_page(edited: Sequence[Edited], found: Figures, model: str) -> str:
    """The whole page as text: no other file and no network is needed to show it."""
    cards = "\n".join(_card(one, case) for one, case in zip(edited, found.cases, strict=True))
    bundle = edited[0].result.bundle_hash
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>a2edit: {html.escape(model)}</title><style>{STYLE}</style></head>
<body><main>
<h1>Objects from references, painted into rough masks</h1>
<p class="lead">Every picture below was edited on this machine by engines that were built here from
<b>{html.escape(model)}</b>, the embedded model. It never saw these objects, scenes or masks.
Hover over an edit, or tap it, to see what was there before.</p>
{_tiles(edited, found)}
<section class="cards">
{cards}
</section>
<footer>Bundle <code>{html.escape(bundle)}</code>. Colours are compared in the middle of the edited
region by histogram; the outside is every pixel beyond the mask's feathered seam.</footer>
</main></body></html>
"""


def data_uri(picture: Image.Image, side: int = SHOWN) -> str:
    """A JPEG of at most `side` pixels a side, as an address that needs no file."""
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _tiles(edited: Sequence[Edited], found: Figures) -> str:
    errors = [one.result.predicted_error for one in edited]
    routes = {one.result.route for one in edited}
    tiles = {
        f"own reference closer in colour, of {found.comparisons} comparisons": (
            f"{found.own_closer:.1%}"
        ),
        "of the pixels outside the mask unchanged, worst case": f"{found.identical_outside:.2%}",
        "an edit, median": f"{found.seconds:.2f} s",
        f"routes used by {len(edited)} edits": f"{len(routes)}",
        "predicted route error, median and largest": (
            f"{np.median(errors):.1%} · {max(errors):.1%}"
        ),
    }
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles.items())
    return f'<dl class="tiles">{rows}</dl>'


def _card(one: Edited, case: CaseFigures) -> str:
    scene, result = one.case.scene, one.result
    marked = Image.fromarray(masked(np.asarray(scene), one.region))
    ground = Image.new("RGB", one.case.thing.size, (255, 255, 255))
    ground.paste(one.case.thing, (0, 0), one.case.thing)
    active = (result.gate_weights > 0).sum(axis=1).mean()
    source = "a drawing" if one.case.drawn else "a photograph"
    name = html.escape(one.case.name)
    return f"""<article>
<figure class="swap" tabindex="0"><img src="{data_uri(scene)}" alt="the scene before">
<img src="{data_uri(result.image)}" alt="{name}"><figcaption>edit</figcaption></figure>
<div class="pair">
<figure><img src="{data_uri(marked)}" alt="scene and mask"><figcaption>mask: {one.case.kind}
</figcaption></figure>
<figure><img src="{data_uri(ground)}" alt="reference"><figcaption>reference</figcaption></figure>
<figure>{heat_map(result.gate_weights, axes=False)}<figcaption>experts, by block
</figcaption></figure>
</div>
<div class="text"><h2>{name}</h2>
<p>{one.case.category}, into {source} of {scene.width} × {scene.height}</p>
<p>own reference closer in {case.own_closer:.0%} ·
outside unchanged {case.identical_outside:.2%}</p>
<p>route {html.escape(result.route)} · predicted error {result.predicted_error:.1%} ·
{active:.1f} experts a block · {one.seconds:.2f} s</p></div>
</article>"""

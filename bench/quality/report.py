"""The report: one HTML file with tables, differences and a sheet for every subject."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from a2edit.bench.quality.metric import METRICS
from a2edit.bench.quality.sheets import Edit, Sheet
from a2edit.bench.quality.tables import Difference, Table
from a2edit.bench.rows import Setup

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --paper: #f6f5f2; --card: #fff;
  --line: #e4e2dc; --accent: #c2412d; --best: #e8f1e4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9e7e2; --soft: #9aa1ae; --paper: #14161b;
  --card: #1d2027; --line: #30343d; --accent: #f0806b; --best: #24352a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0; }
p { max-width: 52rem; margin: .3rem 0; } p.soft, footer, dt { color: var(--soft); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
table { border-collapse: collapse; width: 100%; font-size: .86rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .5rem; text-align: right; } td { white-space: nowrap; }
th { vertical-align: bottom; line-height: 1.25; font-weight: 600; color: var(--soft);
  border-bottom: 1px solid var(--line); }
th.key, td.key { text-align: left; }
tr.own td { font-weight: 600; } tr.first td { border-top: 1px solid var(--line); }
td.best { background: var(--best); }
article { background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: .9rem; margin: 0 0 1rem; }
article header { display: flex; gap: .6rem; align-items: baseline; margin-bottom: .6rem; }
article header span { color: var(--soft); font-size: .85rem; }
.sheet { display: grid; gap: .8rem; grid-template-columns: 170px 1fr; }
.kinds { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 430px), 1fr)); }
.trio { display: grid; grid-template-columns: repeat(3, 1fr); gap: .3rem; }
figure { margin: 0; } img { width: 100%; display: block; border-radius: 6px;
  background: var(--line); }
figcaption, .figures { color: var(--soft); font-size: .74rem; font-variant-numeric: tabular-nums; }
.kind { font-size: .84rem; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .86rem; }
dt, dd { margin: 0; } footer { margin-top: 2rem; font-size: .84rem; }
@media (max-width: 640px) { .sheet { grid-template-columns: 1fr; }
  .given { display: grid; grid-template-columns: 1fr 1fr; gap: .3rem; } }
"""
LINE = ("closer", "psnr_object", "edges", "vlm")  # below an edit


@dataclass(frozen=True, slots=True)
class Report:
    """What a page is made of."""

    setup: Setup
    source: str  # what was scored
    tables: Sequence[Table]
    differences: Sequence[Difference]
    sheets: Sequence[Sheet]
    notes: Sequence[str]  # what was not measured, and why


def report_page(report: Report) -> str:
    """The page as text; it needs no other file and no network."""
    model = html.escape(report.setup.model)
    notes = "".join(f'<p class="soft">{html.escape(note)}</p>' for note in report.notes)
    tables = "".join(
        f"<section><h2>{html.escape(table.title.capitalize())}</h2>{_table(table)}</section>"
        for table in report.tables
    )
    sheets = "\n".join(_sheet(sheet) for sheet in report.sheets)
    setup = html.escape(
        f"{report.setup.date}, commit {report.setup.commit}, {report.setup.device}; "
        f"{report.setup.versions}"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>a2edit quality: {model}</title><style>{STYLE}</style></head>
<body><main>
<h1>{model}, {report.setup.steps} steps</h1>
<p>{html.escape(report.source)}.</p>
{notes}
{tables}
{_differences(report.differences)}
<section><h2>What the columns say</h2>{_meanings(report.tables)}</section>
<section><h2>Sheets</h2>
<p class="soft">The object's surroundings, for each kind of mask: the scene with the region marked,
the edit, and the reference pasted into the mask's box.</p>
{sheets}
</section>
<footer>{setup}</footer>
</main></body></html>
"""


def _table(table: Table) -> str:
    heads = "".join(f'<th class="key">{html.escape(head)}</th>' for head in table.heads)
    titles = "".join(_title(metric) for metric in table.metrics)
    rows, before = [], ""
    for key, row in table.rows.items():
        names = "".join(f'<td class="key">{html.escape(part)}</td>' for part in key)
        cells = "".join(
            f"<td{_class(table, key, metric)}>{METRICS[metric].text(row.get(metric))}</td>"
            for metric in table.metrics
        )
        kinds = [name for name, is_so in (("own", key[0] == "model"), ("first", key[0] != before))
                 if is_so and len(key) > 1]  # fmt: skip
        before = key[0]
        rows.append(
            f'<tr class="{" ".join(kinds)}">{names}<td>{table.counts[key]}</td>{cells}</tr>'
        )
    body = "".join(rows)
    return (
        f'<div class="scroll"><table><thead><tr>{heads}<th>n</th>{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _title(key: str) -> str:
    metric = METRICS[key]
    arrow = {1: " ↑", -1: " ↓", 0: ""}[metric.better]
    unit = f", {metric.unit}" if metric.unit else ""
    return f'<th title="{html.escape(metric.meaning)}">{metric.title}{unit}{arrow}</th>'


def _class(table: Table, key: tuple[str, ...], metric: str) -> str:
    """Marks the best of the sides that answer with one kind of mask."""
    better = METRICS[metric].better
    rivals = [
        row[metric] for other, row in table.rows.items() if other[-1] == key[-1] and metric in row
    ]
    value = table.rows[key].get(metric)
    competes = len(rivals) > 1 and better and "side" in table.heads
    best = max(rivals, key=lambda other: better * other) if competes else None
    return ' class="best"' if value is not None and value == best else ""


def _differences(differences: Sequence[Difference]) -> str:
    if not differences:
        return ""
    rows = "".join(
        f'<tr><td class="key">{html.escape(found.group)}</td><td class="key">{found.kind}</td>'
        f"<td>{found.pairs}</td><td>{found.closer:+.1f}</td><td>{found.psnr_object:+.2f}</td></tr>"
        for found in differences
    )
    return (
        "<section><h2>Against the fine mask, pair by pair</h2>"
        '<div class="scroll"><table><thead><tr><th class="key">group</th><th class="key">mask</th>'
        "<th>pairs</th><th>own closer, points</th><th>PSNR object, dB</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _meanings(tables: Sequence[Table]) -> str:
    shown = dict.fromkeys(metric for table in tables for metric in table.metrics)
    entries = "".join(
        f"<dt>{METRICS[key].title}</dt><dd>{html.escape(METRICS[key].meaning)}</dd>"
        for key in shown
    )
    return f"<dl>{entries}</dl>"


def _sheet(sheet: Sheet) -> str:
    name = html.escape(sheet.name)
    kinds = "".join(_edit(edit, name) for edit in sheet.edits)
    return f"""<article><header><h3>{name}</h3>
<span>{html.escape(sheet.category)}, {html.escape(sheet.group)}</span></header>
<div class="sheet"><div class="given">
<figure><img src="{sheet.reference}" alt="reference of {name}"><figcaption>reference</figcaption>
</figure><figure><img src="{sheet.truth}" alt="truth of {name}"><figcaption>truth</figcaption>
</figure></div><div class="kinds">{kinds}</div></div></article>"""


def _edit(edit: Edit, name: str) -> str:
    figures = " · ".join(
        f"{METRICS[key].title} {METRICS[key].text(edit.score.values[key])}"
        for key in LINE
        if key in edit.score.values
    )
    pictures = "".join(
        f'<figure><img src="{address}" alt="{what} of {name}, {edit.kind} mask" loading="lazy">'
        f"<figcaption>{what}</figcaption></figure>"
        for what, address in (("mask", edit.marked), ("edit", edit.edit), ("pasted", edit.paste))
        if address
    )
    return (
        f'<div><div class="kind">{edit.kind}</div><div class="trio">{pictures}</div>'
        f'<div class="figures">{figures}</div></div>'
    )

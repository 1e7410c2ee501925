"""Tables for the console."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as Shown

from a2edit.bench.quality.metric import METRICS
from a2edit.bench.quality.tables import Difference, Table

# As many as a terminal has room for; JSON and report have everything.
SHOWN = ("closer", "psnr_mask", "psnr_object", "edges", "raw_psnr_band",
         "clip_i", "dino_i", "lpips", "fid", "vlm")  # fmt: skip


def show_table(figures: Table) -> Shown:
    shown = Shown(
        box=None, header_style="bold", title=figures.title, title_justify="left", title_style="bold"
    )
    for head in figures.heads:
        shown.add_column(head, no_wrap=True)
    shown.add_column("n", justify="right")
    for metric in figures.metrics:
        shown.add_column(METRICS[metric].title, justify="right", min_width=6)
    for key, row in figures.rows.items():
        cells = (METRICS[metric].text(row.get(metric)) for metric in figures.metrics)
        shown.add_row(*key, str(figures.counts[key]), *cells)
    return shown


def show_differences(console: Console, differences: Sequence[Difference]) -> None:
    for found in differences:
        console.print(
            f"{found.group}, {found.kind} against fine over {found.pairs} pairs: own closer "
            f"{found.closer:+.1f} points, object {found.psnr_object:+.2f} dB"
        )

"""A check's report as tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from a2edit.training.datasets.findings import ERRORS, WARNINGS, Finding, Report
from a2edit.training.datasets.record import SPLITS

_EXAMPLES = 2


def print_report(report: Report, console: Console) -> None:
    """Counts by category and split, and what was found with an example or two."""
    title = f"{report.samples} samples in {report.seconds:.1f} s"
    counts = Table(title=title, title_justify="left")
    counts.add_column("category")
    for split in SPLITS:
        counts.add_column(split, justify="right")
    counts.add_column("subcategories", justify="right")
    for category in report.categories:
        kinds = sum(1 for of, _ in report.subcategories if of == category)
        cells = [str(report.counts[category, split]) for split in SPLITS]
        counts.add_row(category, *cells, str(kinds))
    console.print(counts)
    if not report.tally:
        console.print("nothing is wrong with it")
        return
    found = Table(title="what was found", title_justify="left")
    found.add_column("")
    found.add_column("code", no_wrap=True)
    found.add_column("times", justify="right")
    found.add_column("such as", overflow="fold")
    for codes, severity in ((ERRORS, "error"), (WARNINGS, "warning")):
        for code in codes:
            if report.tally[code]:
                listed = [finding for finding in report.findings if finding.code == code]
                examples = "\n".join(_example(finding) for finding in listed[:_EXAMPLES])
                found.add_row(severity, code, str(report.tally[code]), examples)
    console.print(found)


def _example(finding: Finding) -> str:
    return f"{finding.sample}: {finding.detail}" if finding.sample else finding.detail

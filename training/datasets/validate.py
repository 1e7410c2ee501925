"""Checks a whole data set: every file of every sample, and samples against each other."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import numpy as np

from a2edit.runtime.errors import DataError
from a2edit.training.datasets.examine import Examined, examine
from a2edit.training.datasets.findings import Finding, Report
from a2edit.training.datasets.uniedit import Entry, entries, find_units

# A picture below this is blurred at the working size of the embedded model.
LEAST_SIDE = 256
_CHUNK = 256  # samples under way at once


def validate(
    path: Path | str,
    *,
    least: int = LEAST_SIDE,
    workers: int = 1,
    picks: int = 4,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Look at every sample; memory does not grow with their number.

    Args:
        path: what `find_units` takes.
        least: shorter sides under this many pixels are reported as small.
        workers: threads that decode (decoders and hashes run beside each other).
        picks: samples of each category to keep for a sheet, drawn evenly.
        progress: called with the number of samples done.

    Raises DataError where there is no data set at all; whatever is wrong inside is a finding.
    """
    start = monotonic()
    report = Report(str(path))
    rng = np.random.default_rng(0)
    seen: Counter[str] = Counter()
    with (
        TemporaryDirectory() as scratch,
        closing(sqlite3.connect(Path(scratch) / "seen.sqlite")) as database,
    ):
        # which digests and ids come twice is found on disk, not in memory
        database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE picture (digest BLOB, name TEXT, id TEXT, split TEXT);"
            "CREATE TABLE sample (id TEXT, unit TEXT, key TEXT);"
        )
        found = _entries(find_units(path), report)
        for result in _examined(found, least, workers):
            report.samples += 1
            report.faulty += not result.sound
            for finding in result.findings:
                report.add(finding)
            _count(report, result, database)
            if result.sound and result.record is not None:
                category = result.record.category
                seen[category] += 1
                _pick(
                    report.picks.setdefault(category, []), result.entry, seen[category], picks, rng
                )
            if progress is not None:
                progress(report.samples)
        if not report.samples:
            raise DataError(f"{str(path)!r} holds no samples that can be checked")
        for finding in _across(database):
            report.add(finding)
    report.seconds = monotonic() - start
    return report


def _entries(units: tuple[Path, ...], report: Report) -> Iterator[Entry]:
    for unit in units:
        try:
            yield from entries(unit)
        except DataError as error:
            report.add(Finding("broken-unit", "", str(unit), str(error)))


def _examined(found: Iterable[Entry], least: int, workers: int) -> Iterator[Examined]:
    look = partial(examine, least=least)
    if workers <= 1:
        yield from map(look, found)
        return
    waiting = iter(found)
    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(islice(waiting, _CHUNK)):
            yield from pool.map(look, chunk)


def _count(report: Report, result: Examined, database: sqlite3.Connection) -> None:
    record = result.record
    if record is None:
        return
    report.counts[record.category, record.split] += 1
    report.subcategories[record.category, record.subcategory] += 1
    row = (record.id, str(result.entry.unit), result.entry.key)
    database.execute("INSERT INTO sample VALUES (?, ?, ?)", row)
    database.executemany(
        "INSERT INTO picture VALUES (?, ?, ?, ?)",
        [(digest, name, record.id, record.split) for name, digest in result.digests.items()],
    )


def _pick(
    chosen: list[Entry], entry: Entry, seen: int, picks: int, rng: np.random.Generator
) -> None:
    """Keep each of the `seen` samples so far, this one among them, with the same chance."""
    if len(chosen) < picks:
        chosen.append(entry)
        return
    place = int(rng.integers(seen))
    if place < picks:
        chosen[place] = entry


_SAME_ID = """
SELECT id, count(*), group_concat(key, ', ') FROM sample GROUP BY id HAVING count(*) > 1 ORDER BY id
"""
_SAME_PICTURE = """
SELECT group_concat(DISTINCT name), count(DISTINCT split), count(DISTINCT id), min(id), max(id)
FROM picture GROUP BY digest HAVING count(DISTINCT id) > 1 ORDER BY min(id), min(name)
"""


def _across(database: sqlite3.Connection) -> Iterator[Finding]:
    for name, count, keys in database.execute(_SAME_ID):
        yield Finding("same-id", name, "", f"{count} samples: {_shortened(keys)}")
    for names, splits, count, first, last in database.execute(_SAME_PICTURE):
        code = "leak" if splits > 1 else "same-picture"
        what = " and ".join(sorted(names.split(",")))
        where = "train and test" if splits > 1 else "one split"
        detail = f"the same {what} in {count} samples of {where}, such as {last!r}"
        yield Finding(code, first, "", detail)


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."

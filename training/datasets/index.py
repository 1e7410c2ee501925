"""Which sample is number n of a split and a category: an index on disk, built once per data set.

The index is an SQLite file: building it sorts on disk, so memory does not grow with the data set,
and a look-up reads one row. It lies in the user's cache folder, because data sets are often
read-only, and it is built again when files were added, removed or replaced.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from a2edit.runtime.errors import DataError
from a2edit.runtime.images import atomic_path
from a2edit.training.datasets.record import FILES
from a2edit.training.datasets.uniedit import Entry, entries, find_units, walk

Progress = Callable[[int], None]

_VERSION = 1
_PLACES: Final = struct.Struct(f"<{2 * len(FILES)}q")
_SCHEMA = """
CREATE TABLE found (id TEXT, split TEXT, category TEXT, unit INTEGER, key TEXT, places BLOB);
CREATE TABLE unit (number INTEGER PRIMARY KEY, path TEXT);
CREATE TABLE sample (
  split TEXT, category TEXT, place INTEGER, place_of_all INTEGER, unit INTEGER, key TEXT,
  places BLOB, PRIMARY KEY (split, category, place)
) WITHOUT ROWID;
"""
# Sorted by id, so that the same samples have the same numbers in a folder and in shards.
_NUMBER = """
INSERT INTO sample SELECT split, category,
  row_number() OVER (PARTITION BY split, category ORDER BY id) - 1,
  row_number() OVER (PARTITION BY split ORDER BY id) - 1, unit, key, places FROM found;
CREATE UNIQUE INDEX of_all ON sample (split, place_of_all);
CREATE TABLE count AS SELECT split, category, count(*) AS samples FROM found
  GROUP BY split, category;
DROP TABLE found;
"""


_FROM = "SELECT unit.path, key, places FROM sample JOIN unit ON unit.number = sample.unit "
_OF_ALL = _FROM + "WHERE split = ? AND place_of_all = ?"
_OF_ONE = _FROM + "WHERE split = ? AND place = ? AND category = ?"


@dataclass(frozen=True, slots=True)
class Index:
    """A built index. It holds no connection: workers of any kind may have copies."""

    path: Path
    counts: dict[tuple[str, str], int]  # by (split, category)

    def count(self, split: str, category: str | None = None) -> int:
        return sum(
            samples
            for (in_split, of), samples in self.counts.items()
            if in_split == split and category in (None, of)
        )

    def entry(self, split: str, place: int, category: str | None = None) -> Entry:
        """Sample `place` of a split, of one category or of all; sorted by id."""
        with _reading(self.path) as database:
            if category is None:
                row = database.execute(_OF_ALL, (split, place)).fetchone()
            else:
                row = database.execute(_OF_ONE, (split, place, category)).fetchone()
        if row is None:
            raise DataError(f"no sample {place} in split {split!r}, category {category!r}")
        return Entry(Path(row[0]), row[1], _unpacked(row[2]))


def open_index(path: Path | str, progress: Progress | None = None, *, again: bool = False) -> Index:
    """The index of a data set (what `find_units` takes), built if there is none that still holds.

    `progress` is called with the number of samples found so far; `again` builds it in any case.
    No picture is read.

    Raises DataError for broken shards or json, incomplete samples, and ids that come twice.
    """
    units = find_units(path)
    stamp = _stamp(units)
    place = index_folder() / f"{_digest(str(Path(os.fspath(path)).absolute()))[:24]}.sqlite"
    if again or not _holds(place, stamp):
        _build(place, units, stamp, progress)
    with _reading(place) as database:
        rows = database.execute("SELECT split, category, samples FROM count").fetchall()
    return Index(place, {(split, category): samples for split, category, samples in rows})


def index_folder() -> Path:
    """$XDG_CACHE_HOME/a2edit/indexes; ~/.cache where that is not set."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "a2edit" / "indexes"


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        raise DataError(f"index {str(path)!r} cannot be read: {error}; start again") from None


def _holds(place: Path, stamp: str) -> bool:
    if not place.is_file():
        return False
    try:
        with _reading(place) as database:
            row = database.execute("SELECT stamp FROM about").fetchone()
    except DataError:
        return False
    return bool(row == (stamp,))


def _build(place: Path, units: tuple[Path, ...], stamp: str, progress: Progress | None) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"no index can be written to {str(place.parent)!r}: {error.strerror}; "
            "set XDG_CACHE_HOME to a folder that can be written"
        ) from None
    try:
        with atomic_path(place) as temporary, closing(sqlite3.connect(temporary)) as database:
            _fill(database, units, stamp, progress)
    except sqlite3.Error as error:
        raise DataError(f"index {str(place)!r} cannot be written: {error}") from None


def _fill(
    database: sqlite3.Connection,
    units: tuple[Path, ...],
    stamp: str,
    progress: Progress | None,
) -> None:
    # the file is renamed when it is whole, and thrown away otherwise
    database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
    database.executemany(
        "INSERT INTO unit VALUES (?, ?)",
        ((number, str(unit.absolute())) for number, unit in enumerate(units)),
    )
    database.executemany("INSERT INTO found VALUES (?, ?, ?, ?, ?, ?)", _rows(units, progress))
    twice = database.execute(
        "SELECT id, count(*) FROM found GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT 1"
    ).fetchone()
    if twice is not None:
        raise DataError(
            f"id {twice[0]!r} comes {twice[1]} times: ids must differ in the whole data set; "
            f"{_CHECK}"
        )
    database.executescript(_NUMBER)
    database.execute("CREATE TABLE about (stamp TEXT)")
    database.execute("INSERT INTO about VALUES (?)", (stamp,))
    database.commit()


_CHECK = "`a2edit-train data check` lists everything that is wrong"


def _rows(
    units: tuple[Path, ...], progress: Progress | None
) -> Iterator[tuple[str, str, str, int, str, bytes]]:
    found = 0
    for number, unit in enumerate(units):
        for entry in entries(unit):
            if entry.missing:
                raise DataError(
                    f"sample {entry.key!r} in {str(unit)!r} lacks {', '.join(entry.missing)}; "
                    f"{_CHECK}"
                )
            record = entry.record()
            places = (value for part in FILES for value in entry.places[part])
            row = (record.id, record.split, record.category)
            yield (*row, number, entry.key, _PLACES.pack(*places))
            found += 1
            if progress is not None and found % 1000 == 0:
                progress(found)
    if not found:
        raise DataError(
            f"{str(units[0])!r} holds no samples: "
            f"a sample is {', '.join(f'{{id}}.{suffix}' for suffix in FILES.values())}"
        )
    if progress is not None:
        progress(found)


def _unpacked(places: bytes) -> dict[str, tuple[int, int]]:
    numbers = _PLACES.unpack(places)
    return {part: (numbers[2 * place], numbers[2 * place + 1]) for place, part in enumerate(FILES)}


def _stamp(units: tuple[Path, ...]) -> str:
    """Changes when shards are replaced, or files of a folder added, removed or renamed.

    A json that is rewritten in place keeps its folder's time: readers compare what they read.
    """
    lines = [str(_VERSION)]
    for unit in units:
        places = [unit] if unit.suffix == ".tar" else [folder for folder, _ in walk(unit)]
        for place in places:
            about = place.stat()
            size = about.st_size if place is unit and unit.suffix == ".tar" else 0
            lines.append(f"{place.absolute()}\t{size}\t{about.st_mtime_ns}")
    return _digest("\n".join(lines))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

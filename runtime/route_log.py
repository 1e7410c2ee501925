"""What gates asked for in service, to calibrate routes on: a file of JSON lines.

    {"checkpoint": "9f86…", "route": "garments", "predicted_error": 0.004, "supply": "static",
     "table": [[0.61, 0.0, …], …]}

Gate tables and what was made of them; never pictures, prompts, paths or names. A line is one
write to a file opened for appending, so processes on one machine can share a log.
"""

import json
import math
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.errors import DataError, RequestError
from a2edit.runtime.routing import RouteChoice

SUPPLIES = ("static", "merged")


class RouteLog:
    """Appends to a log; thread-safe. The file is made if there is none."""

    def __init__(self, path: str | os.PathLike[str], checkpoint: str) -> None:
        """Open `path` for the gate of `checkpoint`, by its hash: `manifest.model.checkpoint_hash`.

        Raises RequestError where the file cannot be written.
        """
        self.path = Path(path)
        self._checkpoint = checkpoint
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        try:
            self._file = os.open(self.path, flags, 0o644)
            # a line that a crash has cut short must not swallow the next one
            size = os.lseek(self._file, 0, os.SEEK_END)
            os.lseek(self._file, max(size - 1, 0), os.SEEK_SET)
            self._torn = os.read(self._file, 1) not in (b"", b"\n")
        except OSError as error:
            raise RequestError(
                f"route log {str(self.path)!r} cannot be written ({error.strerror}): "
                "give a file in a folder that exists and can be written to"
            ) from None
        self._lock = threading.Lock()

    def append(self, gate_weights: NDArray[np.floating], choice: RouteChoice) -> None:
        """Add one line for a gate's [L, N] and the answer to it; raises OSError."""
        # the shortest digits that give the same float32
        table = [[float(str(weight)) for weight in row] for row in gate_weights.astype(np.float32)]
        record = {
            "checkpoint": self._checkpoint,
            "route": choice.route,
            "predicted_error": choice.predicted_error,
            "supply": choice.supply,
            "table": table,
        }
        line = json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n"
        with self._lock:
            data = ("\n" * self._torn + line).encode()
            self._torn = True
            if os.write(self._file, data) != len(data):
                raise OSError(f"route log {str(self.path)!r}: a line was written in part only")
            self._torn = False

    def close(self) -> None:
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True, eq=False)
class RouteLogRecords:
    """A log that was read: S requests to one checkpoint, in the order of the file."""

    checkpoint: str  # hash
    tables: NDArray[np.float32]  # [S, L, N], what the gate asked for
    routes: tuple[str, ...]  # [S]
    predicted_errors: NDArray[np.float64]  # [S]
    supplies: tuple[str, ...]  # [S], "static" or "merged"
    torn: int | None = None  # the number of a last line that was cut short, and left out

    def __len__(self) -> int:
        return len(self.tables)


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    checkpoint: str
    route: str
    predicted_error: float
    supply: str
    table: NDArray[np.float32]


def read_route_log(path: str | os.PathLike[str]) -> RouteLogRecords:
    """Read what RouteLog wrote.

    A last line without its end was being written when the process died: it is left out and noted
    in `torn`. Any other line that is damaged is refused with its number, and so is a log of more
    than one checkpoint: DataError.
    """
    name = repr(str(path))
    try:
        rows = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"route log {name} cannot be read: {error.strerror}") from None
    torn = len(rows) if rows[-1] else None
    lines = [_line(name, number, row) for number, row in enumerate(rows[:-1], 1) if row]
    if not lines:
        raise DataError(f"route log {name} has no lines: serve requests with --route-log first")
    first = lines[0]
    for line in lines:
        if line.checkpoint != first.checkpoint:
            raise DataError(
                f"route log {name}: line {line.number} is of checkpoint {line.checkpoint[:12]}, "
                f"line {first.number} of {first.checkpoint[:12]}: use one log a checkpoint"
            )
        if line.table.shape != first.table.shape:
            raise DataError(
                f"route log {name}: line {line.number} has a table {list(line.table.shape)}, "
                f"line {first.number} one of {list(first.table.shape)}: delete the wrong one"
            )
    return RouteLogRecords(
        checkpoint=first.checkpoint,
        tables=np.stack([line.table for line in lines]),
        routes=tuple(line.route for line in lines),
        predicted_errors=np.array([line.predicted_error for line in lines], np.float64),
        supplies=tuple(line.supply for line in lines),
        torn=torn,
    )


def _line(name: str, number: int, row: bytes) -> _Line:
    try:
        return _parsed(number, json.loads(row))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"{error} missing" if isinstance(error, KeyError) else error
        raise DataError(
            f"route log {name}: line {number} is damaged ({reason}): delete that line"
        ) from None


def _parsed(number: int, content: Any) -> _Line:
    if not isinstance(content, dict):
        raise TypeError("not a JSON object")
    checkpoint, route, supply = (content[key] for key in ("checkpoint", "route", "supply"))
    error, table = content["predicted_error"], np.array(content["table"], np.float32)
    if not (isinstance(checkpoint, str) and isinstance(route, str) and supply in SUPPLIES):
        raise ValueError("checkpoint, route and supply make no sense")
    if isinstance(error, bool) or not isinstance(error, int | float) or not 0 <= error < math.inf:
        raise ValueError(f"predicted_error is {error!r}")
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"table has shape {list(table.shape)}, or is not finite")
    return _Line(number, checkpoint, route, float(error), supply, table)

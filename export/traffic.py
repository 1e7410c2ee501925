"""Gate tables that a running bundle has logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.errors import DataError
from a2edit.runtime.route_log import read_route_log


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """What was asked of one checkpoint.

    Attributes:
        tables: [T, L, N] float32, in the order of the logs.
        notes: lines that a crash had cut short, for people.
    """

    tables: NDArray[np.float32]
    notes: tuple[str, ...]


def read_traffic(logs: Sequence[Path], checkpoint: str) -> Traffic:
    """Read logs of the checkpoint with the hash `checkpoint`.

    Raises:
        DataError: a log is damaged, empty, or of another checkpoint.
    """
    tables: list[NDArray[np.float32]] = []
    notes: list[str] = []
    for path in logs:
        found = read_route_log(path)
        if found.checkpoint != checkpoint:
            raise DataError(
                f"route log {str(path)!r} is of checkpoint {found.checkpoint[:12]}, and this is "
                f"{checkpoint[:12]}: other experts, whose weights mean something else; give a log "
                "of this checkpoint, or build from that one"
            )
        if tables and found.tables.shape[1:] != tables[0].shape[1:]:
            raise DataError(
                f"route log {str(path)!r} has tables {list(found.tables.shape[1:])}, and "
                f"{str(logs[0])!r} {list(tables[0].shape[1:])}, of the same checkpoint: one is "
                "damaged"
            )
        if found.torn is not None:
            notes.append(f"{path}: line {found.torn} was cut short and is left out")
        tables.append(found.tables)
    return Traffic(np.concatenate(tables), tuple(notes))

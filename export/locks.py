"""Locks between processes that the system lets go of when their holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class FolderLock:
    """Who uses a folder: any number that share it, or one that has it alone.

    Held on the folder itself, until `close` or the end of the process. Not for use by several
    threads at once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.open(folder, os.O_RDONLY)

    def alone(self) -> bool:
        """Take the folder alone; False, and nothing taken, where somebody uses it."""
        return _taken(self._folder)

    def shared(self) -> None:
        """Use the folder beside others, as soon as nobody has it alone; gives up having it so."""
        fcntl.flock(self._folder, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let go; nothing where that is done."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def __del__(self) -> None:
        self.close()


@contextmanager
def only_one(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Inside, nobody else is inside for the same path; `waiting` is called if somebody is.

    The file is made for it and removed again.
    """
    while True:
        with path.open("w", encoding="utf-8") as file:
            if not _taken(file.fileno()):
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            # Who was inside has removed its file: a lock on that one keeps nobody out.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""A stop that loses nothing: SIGINT and SIGTERM wait for the end of a step."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class Stopped(Exception):  # noqa: N818 - no failure: the run was asked to end, and did
    """A signal ended the run after a whole step; state and checkpoint are written."""

    def __init__(self, number: int, where: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} {where}")
        self.exit_code = 128 + number


class StopSignals:
    """While the block runs, the first SIGINT or SIGTERM is noted; a second one ends at once.

    `received` is the signal's number, 0 before. Outside the main thread nothing is caught.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __exit__(self, *_: object) -> None:
        self._restore()


def leave_signals_to_the_parent(worker: int) -> None:
    """For processes that draw samples: a terminal's Ctrl-C reaches them as well."""
    del worker
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

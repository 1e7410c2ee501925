"""A build as a chain of steps, each kept under the hash of everything that it was made from.

A step's folder appears by one rename when its work is done, so a killed build leaves whole steps or
none, and the next one goes on after the last. What is found is hashed again before it is used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_DONE = "step.json"


class Progress(Protocol):
    """Told of every step as it starts and ends."""

    def start(self, step: str) -> None: ...

    def at(self, step: str, place: int, total: int) -> None:
        """`place` of `total` pieces of a long step are done."""
        ...

    def done(self, step: str, size: int, seconds: float, *, reused: bool) -> None:
        """`size` in bytes of the step's files; `reused` when an earlier build had made them."""
        ...

    def note(self, text: str) -> None: ...


class Silent:
    """No progress: for tests and for use as a library."""

    def start(self, step: str) -> None: ...

    def at(self, step: str, place: int, total: int) -> None: ...

    def done(self, step: str, size: int, seconds: float, *, reused: bool) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Made:
    """A finished step: its files lie in `folder`; `key` stands for their content downstream."""

    folder: Path
    key: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Runs steps, or finds them done.

    Attributes:
        cache: folder of finished steps; may be deleted at any time between builds.
        progress: told of every step.
    """

    cache: Path
    progress: Progress

    def open(self) -> None:
        """Make the cache, and clear what a killed build was in the middle of."""
        self.cache.mkdir(parents=True, exist_ok=True)
        for left in self.cache.glob(".doing-*"):
            shutil.rmtree(left, ignore_errors=True)

    def run(self, name: str, inputs: Mapping[str, Any], work: Callable[[Path], None]) -> Made:
        """Do a step unless it is done.

        Args:
            name: of the step; part of its folder's name.
            inputs: everything that the result depends on, as JSON; other steps by their keys.
            work: writes the step's files into the folder that it is given.
        """
        started = time.perf_counter()
        self.progress.start(name)
        key = hashlib.sha256(_json({"step": name, "inputs": inputs})).hexdigest()[:24]
        folder = self.cache / f"{name}-{key}"
        reused = _is_whole(folder)
        if not reused:
            shutil.rmtree(folder, ignore_errors=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".doing-{name}-", dir=self.cache))
            try:
                work(temporary)
                for path in temporary.iterdir():
                    path.chmod(0o644)  # some writers keep their files to their owner
                (temporary / _DONE).write_bytes(_json(_hashes(temporary)))
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        size = sum(path.stat().st_size for path in folder.iterdir())
        self.progress.done(name, size, time.perf_counter() - started, reused=reused)
        return Made(folder, key)


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_hash(path) for path in folder.iterdir() if path.name != _DONE}


def _is_whole(folder: Path) -> bool:
    try:
        listed = json.loads((folder / _DONE).read_bytes())
        return bool(listed == _hashes(folder))
    except (OSError, ValueError):
        return False


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

"""A build as a chain of steps, each kept under the hash of everything that it was made from.

A step's folder appears by one rename when its work is done, so a killed build leaves whole steps or
none, and the next one goes on after the last. What is found is hashed again before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from a2edit.export.locks import FolderLock, only_one

_DONE = "step.json"
NEEDED = ".needed.json"


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
class Task:
    """A step that may be done beside others.

    Attributes:
        name: of the step; part of its folder's name.
        inputs: everything that the result depends on, as JSON; other steps by their keys.
        work: writes the step's files into the folder that it is given.
    """

    name: str
    inputs: Mapping[str, Any]
    work: Callable[[Path], None]


class Chain:
    """Runs steps, or finds them done.

    Builds may share a cache: a step that another build is doing is waited for.

    Args:
        cache: folder of finished steps; may be deleted at any time between builds.
        progress: told of every step; by several threads where `jobs` is above 1.
        jobs: how many steps of `run_all` are done at a time.
    """

    def __init__(self, cache: Path, progress: Progress, jobs: int = 1) -> None:
        self.cache, self.progress, self.jobs = cache, progress, jobs
        self._used: set[str] = set()
        self._lock: FolderLock | None = None

    def open(self) -> None:
        """Make the cache, and clear what killed builds were in the middle of.

        Only where no other build runs in it; `a2edit-build gc` keeps out until `close`.
        """
        self.cache.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.cache)
        if self._lock.alone():
            for left in leftovers(self.cache):
                remove(left)
        self._lock.shared()

    def finish(self) -> None:
        """Write down which steps the bundle was made of, so that others can be told from them."""
        temporary = self.cache / f"{NEEDED}-{os.getpid()}"
        temporary.write_bytes(_json(sorted(self._used)))
        temporary.replace(self.cache / NEEDED)

    def close(self) -> None:
        if self._lock:
            self._lock.close()

    def run(self, name: str, inputs: Mapping[str, Any], work: Callable[[Path], None]) -> Made:
        """Do a step unless it is done; arguments as in `Task`."""
        started = time.perf_counter()
        self.progress.start(name)
        key = hashlib.sha256(_json({"step": name, "inputs": inputs})).hexdigest()[:24]
        folder = self.cache / f"{name}-{key}"
        with self.alone(name, folder.name):
            reused = _is_whole(folder)
            if not reused:
                self._make(name, folder, work)
        size = sum(path.stat().st_size for path in folder.iterdir())
        self._used.add(folder.name)
        self.progress.done(name, size, time.perf_counter() - started, reused=reused)
        return Made(folder, key)

    def run_all(self, tasks: Sequence[Task]) -> list[Made]:
        """Do steps that do not need each other, `jobs` at a time; results in the order of `tasks`.

        After the first that fails none is begun, and its error is raised when those that run have
        ended. Work that is not safe beside other work (torch modules, exports) goes to `run`.
        """
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self.run, task.name, task.inputs, task.work) for task in tasks]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _make(self, name: str, folder: Path, work: Callable[[Path], None]) -> None:
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

    def alone(self, name: str, file: str = "") -> AbstractContextManager[None]:
        """Inside, no other build is at `name` (one of several by that name: at `file`)."""
        return only_one(self.cache / f".making-{file or name}", partial(self._waiting, name))

    def _waiting(self, name: str) -> None:
        self.progress.note(f"{name} is being made by another build: waiting for it")


def leftovers(cache: Path) -> list[Path]:
    """What builds that were killed left half done, where no build runs."""
    return sorted(p for pattern in (".doing-*", ".making-*") for p in cache.glob(pattern))


def needed_steps(cache: Path) -> frozenset[str] | None:
    """Folders of the steps that the last bundle was made of; None if no build has ended."""
    try:
        return frozenset(json.loads((cache / NEEDED).read_bytes()))
    except (OSError, ValueError):
        return None


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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

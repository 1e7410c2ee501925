"""Room on the disk: what builds keep beside a bundle, and the bundle does not need any more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from a2edit.export.chain import NEEDED, leftovers, needed_steps, remove
from a2edit.export.locks import FolderLock
from a2edit.runtime.errors import RequestError


@dataclass(frozen=True, slots=True)
class Freed:
    """One thing that can go.

    Attributes:
        path: a folder or file.
        bytes: what it takes, its files' sizes added up.
        why: in a few words.
    """

    path: Path
    bytes: int
    why: str


def collect(folder: Path, note: Callable[[str], None], *, dry_run: bool) -> list[Freed]:
    """Remove what no bundle of a folder needs: cached steps, and what killed builds left.

    A cache that a build runs in is left as it is. The steps of a build that never ended are kept,
    for the next one to go on after them.

    Args:
        folder: that bundles lie in, or one bundle.
        note: told of every cache that is left alone, and why.
        dry_run: only find out.

    Raises:
        RequestError: there is no such folder, or neither a bundle nor a cache in it.
    """
    caches = _caches(folder)
    if not caches:
        raise RequestError(
            f"{str(folder)!r} holds no bundle and no cached steps: give the folder that bundles "
            "were built into, such as build, or one bundle"
        )
    return [freed for cache in caches for freed in _collect(cache, note, dry_run=dry_run)]


def _caches(folder: Path) -> list[Path]:
    """Caches of the bundles in a folder, or of the one bundle that it is (or was)."""
    own = folder.parent / f".{folder.name}.steps"
    return [own] if own.is_dir() else sorted(p for p in folder.glob(".*.steps") if p.is_dir())


def _collect(cache: Path, note: Callable[[str], None], *, dry_run: bool) -> Iterator[Freed]:
    lock = FolderLock(cache)
    try:
        if not lock.alone():
            note(f"{cache}: a build runs in it, left as it is")
            return
        for path, why in _removable(cache, note):
            freed = Freed(path, _size(path), why)
            if not dry_run:
                remove(path)
            yield freed
        if not dry_run and not any(cache.iterdir()):
            cache.rmdir()
    finally:
        lock.close()


def _removable(cache: Path, note: Callable[[str], None]) -> list[tuple[Path, str]]:
    bundle = cache.parent / cache.name[1:].removesuffix(".steps")
    built = (bundle / "manifest.json").is_file()
    halves = leftovers(cache)
    if built:  # else one of them may be all that there is of it
        half = re.compile(rf"\.{re.escape(bundle.name)}-[a-z0-9_]{{8}}(-old)?")
        halves += sorted(p for p in bundle.parent.iterdir() if half.fullmatch(p.name))
    found = [(path, "left by a killed build") for path in halves]
    needed = needed_steps(cache)
    if needed is None:
        note(f"{cache}: no build has ended here, its steps are kept for the next one")
        return found
    for path in sorted(cache.iterdir()):
        hidden = path.name.startswith(".")
        if not built and (not hidden or path.name == NEEDED):
            found.append((path, f"{bundle.name} is gone"))
        elif built and not hidden and path.name not in needed:
            found.append((path, f"not of {bundle.name}'s last build"))
    return found


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())

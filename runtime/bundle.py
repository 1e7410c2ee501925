"""A bundle on disk, checked before anything in it is used."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from a2edit.runtime.engines.base import Array, TensorSpec, WeightSet
from a2edit.runtime.errors import BundleError
from a2edit.runtime.manifest import MANIFEST, REBUILD, FileEntry, Manifest, read_manifest
from a2edit.runtime.merge import RouteMerger
from a2edit.runtime.tensors import map_tensors, pick_tensors


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder whose every file has been compared with its manifest."""

    folder: Path
    manifest: Manifest

    def path(self, file: str) -> Path:
        return self.folder / file

    def weight_set(self, route: str, variant: str) -> WeightSet:
        """A route's weights for a variant of the denoiser, mapped: processes share its pages.

        The arrays are writable, as engines take pointers; a write changes this process's copy.
        """
        sets = self.manifest.weight_sets.get(variant, {})
        entry = sets.get(route)
        if entry is None:
            raise BundleError(
                f"{str(self.folder)!r} has no weight set {route!r} for {variant}; "
                f"it has {', '.join(sorted(sets)) or 'none'}"
            )
        mapped = map_tensors(self.path(entry.file), writable=True)
        arrays = {key: tensor.array for key, tensor in mapped.tensors.items()}
        return WeightSet(route, arrays, mapped.memory)

    def parameters(self, wanted: Iterable[TensorSpec]) -> dict[str, Array]:
        """Parameters that graphs take as inputs, mapped from the files that all graphs share."""
        files = [file for file in self.manifest.files if file.startswith("graphs/")]
        shared = [self.path(file) for file in files if file.endswith(".safetensors")]
        return pick_tensors(shared, {spec.name for spec in wanted})

    def merger(self, variant: str) -> RouteMerger | None:
        """What merges routes that were not built ahead; None if built with --routes-only."""
        if self.manifest.merge is None:
            return None
        weights = self.manifest.graphs["dit"][variant].weights
        return RouteMerger(self.path(self.manifest.merge.file), self.manifest.merge, weights)


def open_bundle(folder: str | os.PathLike[str]) -> Bundle:
    """Read the manifest and compare every file; raises BundleError, which names the file."""
    root = Path(folder)
    manifest = read_manifest(root)
    present = set(_files(root)) - {MANIFEST}
    if missing := sorted(manifest.files.keys() - present):
        raise BundleError(f"{str(root / missing[0])!r} is missing: {REBUILD}")
    if surplus := sorted(present - manifest.files.keys()):
        raise BundleError(
            f"{str(root / surplus[0])!r} does not belong to the bundle: move it elsewhere"
        )
    # hashing releases the interpreter's lock, so the cores share it; the largest go first
    order = sorted(manifest.files.items(), key=lambda item: -item[1].bytes)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for problem in pool.map(lambda item: _problem(root / item[0], item[1]), order):
            if problem:
                raise BundleError(problem)
    return Bundle(root, manifest)


def _files(root: Path) -> Iterator[str]:
    for parent, _, names in os.walk(root):
        for name in names:
            yield (Path(parent) / name).relative_to(root).as_posix()


def _problem(path: Path, entry: FileEntry) -> str | None:
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return f"{str(path)!r} has {size} bytes instead of {entry.bytes}: {REBUILD}"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{str(path)!r} cannot be read ({error.strerror}): {REBUILD}"
    if digest != entry.sha256:
        return f"{str(path)!r} does not match its hash: {REBUILD}"
    return None

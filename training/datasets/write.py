"""Writing UniEdit samples: plain folders or WebDataset shards, whole or not at all."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
from PIL import Image

from a2edit.runtime.boxes import tight_box
from a2edit.runtime.errors import DataError
from a2edit.runtime.images import Pixels
from a2edit.runtime.masks import binarise
from a2edit.training.datasets.record import FILES, PARTS, SPLITS, Part, UniEditRecord
from a2edit.training.datasets.uniedit import UniEditSample

# Ids become names of files and of tar members: what every file system and ustar can hold.
ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_QUALITY = 95


def make_sample(
    *,
    id: str,  # noqa: A002 - the format's own name
    split: str,
    category: str,
    pictures: Mapping[Part, Pixels],
    subcategory: str = "",
    prompt: str = "",
    licence: str = "",
    encoded: Mapping[Part, bytes] | None = None,
) -> UniEditSample:
    """A sample from its four pictures (masks u8 [H,W], ≥ 128 = object).

    `encoded` holds parts that are files of the right kind already, and are taken as they are.

    Raises DataError for an empty mask, a mask of another size, or an id that no file can have.
    """
    if not ID.fullmatch(id):
        raise DataError(f"id {id!r} cannot be a file's name: use 1 to 80 of A-Z a-z 0-9 _ -")
    if split not in SPLITS:
        raise DataError(f"sample {id!r}: split {split!r} is neither {' nor '.join(SPLITS)}")
    for name, mask in (("ref", pictures["ref_mask"]), ("src", pictures["src_mask"])):
        picture = pictures["ref" if name == "ref" else "src"]
        if picture.shape[:2] != mask.shape:
            raise DataError(
                f"sample {id!r}: {name} is {_shown(picture)} and its mask {_shown(mask)}: "
                "both must have one size"
            )
        if not (mask >= 128).any():
            raise DataError(f"sample {id!r}: the mask of {name} is empty: leave the sample out")
    files: dict[str, bytes] = {
        part: (encoded or {}).get(part) or _encode(part, pictures[part]) for part in PARTS
    }
    record = UniEditRecord(
        id=id,
        split=split,
        category=category,
        subcategory=subcategory,
        ref_size=_size(pictures["ref"]),
        src_size=_size(pictures["src"]),
        ref_box=tight_box(pictures["ref_mask"]),
        src_box=tight_box(pictures["src_mask"]),
        prompt=prompt,
        licence=licence,
        sha256={part: hashlib.sha256(data).hexdigest() for part, data in files.items()},
    )
    return UniEditSample(record, files)


def write_samples(
    out: Path,
    samples: Iterable[UniEditSample],
    *,
    per_shard: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write samples to a new folder: a folder a category, or shards of `per_shard` samples.

    The folder appears when all of it is written; whatever goes wrong, nothing is left of it.

    Returns:
        the number of samples.
    """
    with new_folder(out) as folder:
        counted = _counted(samples, progress)
        total = _to_shards(folder, counted, per_shard) if per_shard else _to_folder(folder, counted)
        if not total:
            raise DataError(f"there are no samples to write to {str(out)!r}")
    return total


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that becomes it on success and vanishes on failure."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{str(out)!r} exists and is not an empty folder: give a new one")
    temporary = out.absolute().with_name(f".{out.absolute().name}.{uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.replace(out)
    except OSError as error:
        raise DataError(f"cannot write {str(out)!r}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _counted(
    samples: Iterable[UniEditSample], progress: Callable[[int], None] | None
) -> Iterator[UniEditSample]:
    ids: set[str] = set()
    for count, sample in enumerate(samples, 1):
        if sample.record.id in ids:
            raise DataError(f"id {sample.record.id!r} comes twice: ids must differ")
        ids.add(sample.record.id)
        yield sample
        if progress is not None:
            progress(count)


def _to_folder(folder: Path, samples: Iterator[UniEditSample]) -> int:
    total = 0
    for sample in samples:
        place = folder / _folder_name(sample.record.category)
        place.mkdir(exist_ok=True)
        for name, data in _named(sample).items():
            (place / f"{sample.record.id}.{name}").write_bytes(data)
        total += 1
    return total


def _to_shards(folder: Path, samples: Iterator[UniEditSample], per_shard: int) -> int:
    from webdataset.writer import TarWriter  # imports torch

    total = 0
    while (first := next(samples, None)) is not None:
        path = folder / f"data-{total // per_shard:04d}.tar"
        with path.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as shard:
            for sample in chain((first,), islice(samples, per_shard - 1)):
                shard.write({"__key__": sample.record.id, **_named(sample)})
                total += 1
    return total


def _named(sample: UniEditSample) -> dict[str, bytes]:
    parts = {FILES[part]: data for part, data in sample.files.items()}
    return {FILES["json"]: sample.record.to_json(), **parts}


def _folder_name(category: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", category.lower()).strip("-") or "other"


def _encode(part: Part, picture: Pixels) -> bytes:
    buffer = BytesIO()
    if part.endswith("mask"):
        Image.fromarray(binarise(picture)).save(buffer, "PNG", optimize=False)
    else:
        image = Image.fromarray(np.ascontiguousarray(picture))
        image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def _size(picture: Pixels) -> tuple[int, int]:
    return picture.shape[1], picture.shape[0]


def _shown(picture: Pixels) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"

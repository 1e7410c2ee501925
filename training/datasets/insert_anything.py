"""Insert-Anything-style folders become UniEdit samples.

AnyInsertion, as its authors unpack it (parquet_to_image.py of song-wensong/insert-anything):
    {train,test}/{accessory,object,person,…}/{ref_image,ref_mask,tar_image,tar_mask}/{id}.png
    {train,test}/{accessory,object,person,…}/labels.json      file name -> label, such as "Dress"
A folder of one category, or one that holds the four folders itself, will do as well; the four
files of a sample share their name, whatever their suffixes. Masks are white on the object.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from a2edit.runtime.errors import DataError
from a2edit.runtime.images import Pixels
from a2edit.runtime.masks import binarise
from a2edit.training.datasets.categories import SUBCATEGORIES, category_of
from a2edit.training.datasets.record import SPLITS, Part, load_json
from a2edit.training.datasets.uniedit import UniEditSample, decode, decode_mask, walk
from a2edit.training.datasets.write import make_sample

FOLDERS: Final[dict[str, Part]] = {
    "ref_image": "ref",
    "ref_mask": "ref_mask",
    "tar_image": "src",
    "tar_mask": "src_mask",
}
SKIP = "skip"
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True, slots=True)
class Pair:
    """One sample that was found; nothing of its pictures has been read.

    Attributes:
        place: the folder that holds the four folders, such as train/accessory.
        stem, suffixes: name of its files, and what it ends in, in the order of `FOLDERS`.
        label: from labels.json; empty without one.
        category: UniEdit's.
    """

    id: str
    split: str
    place: Path
    stem: str
    suffixes: tuple[str, ...]
    label: str
    category: str

    def path(self, folder: str) -> Path:
        """Its file in one of `FOLDERS`."""
        return self.place / folder / f"{self.stem}{self.suffixes[list(FOLDERS).index(folder)]}"


def find_pairs(
    source: Path, categories: Mapping[str, str] | None = None, *, split: str | None = None
) -> list[Pair]:
    """What there is to import from a folder, in order.

    Args:
        source: the folder.
        categories: UniEdit's category (or "skip") by label or folder, in lower case; comes before
            what is known of a label, which comes before what is known of a folder.
        split: for all samples; otherwise the folder above says train or test, or it is train.

    Raises DataError for folders of another layout, samples that lack a file, and labels that
    have no category.
    """
    given = {name.lower(): category for name, category in (categories or {}).items()}
    for name, category in given.items():
        if category not in (*SUBCATEGORIES, SKIP):
            raise DataError(
                f"category {category!r} for {name!r} is unknown: "
                f"give one of {', '.join(SUBCATEGORIES)}, or {SKIP}"
            )
    if not source.is_dir():
        raise DataError(f"{str(source)!r} is no folder: give one that holds {', '.join(FOLDERS)}")
    groups = [place for place, _ in walk(source) if (place / "ref_image").is_dir()]
    if not groups:
        raise DataError(_no_groups(source))
    pairs: list[Pair] = []
    unknown: Counter[str] = Counter()
    for place in groups:
        labels = _labels(place / "labels.json")
        above, group = place.resolve().parts[-2:]
        in_split = split or (above if above in SPLITS else SPLITS[0])
        prefix = "-".join(place.relative_to(source).parts)
        for stem, suffixes in _quadruples(place):
            label = labels.get(stem, "")
            mapped = _category(label, group, given)
            if mapped is None:
                unknown[label or group] += 1
            elif mapped != SKIP:
                name = _slug(f"{prefix}-{stem}")
                pairs.append(Pair(name, in_split, place, stem, suffixes, label, mapped))
    if unknown:
        raise DataError(_unmapped(unknown))
    return pairs


def convert(pairs: Iterable[Pair], licence: str = "") -> Iterator[UniEditSample]:
    """The samples of pairs, one at a time; JPEG files are taken as they are, others are encoded.

    Raises DataError for what cannot be decoded, an empty mask, and one of another size than its
    picture.
    """
    for pair in pairs:
        pictures: dict[Part, Pixels] = {}
        encoded: dict[Part, bytes] = {}
        for folder, part in FOLDERS.items():
            path = pair.path(folder)
            data = _bytes(path)
            if part.endswith("mask"):
                pictures[part] = binarise(decode_mask(data, repr(str(path))))
            else:
                pictures[part] = decode(data, repr(str(path))).on_white()
                if path.suffix.lower() in (".jpg", ".jpeg"):
                    encoded[part] = data
        try:
            yield make_sample(
                id=pair.id,
                split=pair.split,
                category=pair.category,
                subcategory=pair.label.lower(),
                prompt=pair.label.lower(),
                licence=licence,
                pictures=pictures,
                encoded=encoded,
            )
        except DataError as error:
            raise DataError(f"{str(pair.path('ref_image'))!r}: {error}") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}") from None


def _quadruples(place: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names without their suffix, and the suffixes in each of the four folders."""
    suffixes: list[dict[str, str]] = []
    for folder in FOLDERS:
        if not (place / folder).is_dir():
            raise DataError(f"{str(place)!r} lacks {folder}: it needs {', '.join(FOLDERS)}")
        names = (path for path in (place / folder).iterdir() if not path.name.startswith("."))
        suffixes.append({p.stem: p.suffix for p in names if p.suffix.lower() in _SUFFIXES})
    for stem in sorted(set().union(*suffixes)):
        lacking = [f for f, found in zip(FOLDERS, suffixes, strict=True) if stem not in found]
        if lacking:
            raise DataError(
                f"sample {stem!r} in {str(place)!r} has no picture in {', '.join(lacking)}: "
                "put it there, or take the others out"
            )
        yield stem, tuple(found[stem] for found in suffixes)


def _labels(path: Path) -> dict[str, str]:
    """Labels by file name without its suffix."""
    if not path.is_file():
        return {}
    labels = load_json(_bytes(path), repr(str(path)))
    return {Path(name).stem: str(label).strip() for name, label in labels.items()}


def _category(label: str, group: str, given: Mapping[str, str]) -> str | None:
    for name in (label, group):
        if name.lower() in given:
            return given[name.lower()]
    # folders "object" and "accessory" hold many things: there, only a label can say
    return category_of(label) or category_of(group)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")


def _no_groups(source: Path) -> str:
    if next(source.rglob("*.parquet"), None) is not None:
        return (
            f"{str(source)!r} holds parquet files: unpack them first with parquet_to_image.py "
            "of github.com/song-wensong/insert-anything, and give the folder it writes"
        )
    return (
        f"{str(source)!r} is not laid out as Insert-Anything's data: no folder in it holds "
        f"{', '.join(FOLDERS)}"
    )


def _unmapped(unknown: Counter[str]) -> str:
    names = sorted(unknown, key=lambda name: (-unknown[name], name))
    shown = ", ".join(f"{name} ({unknown[name]})" for name in names[:20])
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    example = names[0].lower()
    return (
        f"{sum(unknown.values())} samples have a label without a category: {shown}{more}; pass "
        f"--category '{example}=CATEGORY' for each, with one of {', '.join(SUBCATEGORIES)}, "
        f"or '{example}={SKIP}' to leave them out"
    )

"""What a UniEdit sample says of itself: its json (SPEC §10)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from a2edit.runtime.boxes import Box
from a2edit.runtime.errors import A2EditError, DataError

# "ref" is the reference, "src" the target's ground truth; the masks are 255 on the object.
Name = Literal["ref", "src"]
NAMES: Final[tuple[Name, ...]] = get_args(Name)
Part = Literal["ref", "ref_mask", "src", "src_mask"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
# What follows "{id}." in a file's name.
FILES: Final[dict[str, str]] = {
    "json": "json",
    "ref": "ref.jpg",
    "ref_mask": "ref_mask.png",
    "src": "src.jpg",
    "src_mask": "src_mask.png",
}
SPLITS: Final[tuple[str, ...]] = ("train", "test")
KEYS: Final[tuple[str, ...]] = (
    "id", "split", "category", "subcategory", "sizes", "boxes", "prompt", "licence", "sha256",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class UniEditRecord:
    """The json of one sample.

    Attributes:
        id: also the name of its files, up to the first dot.
        split: "train" or "test".
        category: in lower case.
        ref_size, src_size: (width, height) of the pictures, and of their masks.
        ref_box, src_box: tight boxes of the masks, half open.
        sha256: hex digest of the four other files, by part.
    """

    id: str
    split: str
    category: str
    subcategory: str
    ref_size: tuple[int, int]
    src_size: tuple[int, int]
    ref_box: Box
    src_box: Box
    prompt: str
    licence: str
    sha256: Mapping[str, str]

    def to_json(self) -> bytes:
        """UTF-8, keys in the order of SPEC §10; the same record gives the same bytes."""
        value = {
            "id": self.id,
            "split": self.split,
            "category": self.category,
            "subcategory": self.subcategory,
            "sizes": {"ref": list(self.ref_size), "src": list(self.src_size)},
            "boxes": {"ref": _corners(self.ref_box), "src": _corners(self.src_box)},
            "prompt": self.prompt,
            "licence": self.licence,
            "sha256": {part: self.sha256[part] for part in PARTS},
        }
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def parse_record(data: bytes, where: str) -> UniEditRecord:
    """Read a sample's json; `where` names it in messages. Keys that are not ours are let be.

    Raises DataError for what is no json, lacks a key, or has a value of another kind.
    """
    value = load_json(data, where)
    lacking = [key for key in KEYS if key not in value]
    if lacking:
        raise DataError(f"{where} lacks {', '.join(lacking)}: it needs {', '.join(KEYS)}")
    texts = {key: _text(value[key], key, where) for key in ("id", "category", "split")}
    for key in ("subcategory", "prompt", "licence"):
        texts[key] = _text(value[key], key, where, may_be_empty=True)
    if texts["split"] not in SPLITS:
        raise DataError(f"{where}: split {texts['split']!r} is neither {' nor '.join(SPLITS)}")
    sizes, boxes = value["sizes"], value["boxes"]
    digests = _mapping(value["sha256"], "sha256", PARTS, where)
    return UniEditRecord(
        id=texts["id"],
        split=texts["split"],
        category=texts["category"].strip().lower(),
        subcategory=texts["subcategory"],
        ref_size=_size(sizes, "ref", where),
        src_size=_size(sizes, "src", where),
        ref_box=_box(boxes, "ref", where),
        src_box=_box(boxes, "src", where),
        prompt=texts["prompt"],
        licence=texts["licence"],
        sha256={part: _text(digests[part], f"sha256 of {part}", where) for part in PARTS},
    )


def load_json(data: bytes, where: str) -> dict[str, Any]:
    """A json object; raises DataError for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no json ({len(data)} bytes): {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{where} is a json {type(value).__name__}, not an object of keys")
    return value


def _corners(box: Box) -> list[int]:
    return [box.x0, box.y0, box.x1, box.y1]


def _text(value: Any, key: str, where: str, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str) or not (value.strip() or may_be_empty):
        raise DataError(f"{where}: {key} is {_shown(value)}: give a text")
    return value


def _mapping(value: Any, key: str, names: Sequence[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(names) <= set(value):
        raise DataError(f"{where}: {key} is {_shown(value)}: give an object of {', '.join(names)}")
    return value


def _whole(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(number, int) and not isinstance(number, bool) for number in value)
    )


def _size(sizes: Any, name: Name, where: str) -> tuple[int, int]:
    value = _mapping(sizes, "sizes", NAMES, where)[name]
    if not _whole(value, 2) or min(value) < 1:
        raise DataError(f"{where}: size of {name} is {_shown(value)}: give [width, height]")
    return value[0], value[1]


def _box(boxes: Any, name: Name, where: str) -> Box:
    value = _mapping(boxes, "boxes", NAMES, where)[name]
    if not _whole(value, 4):
        raise DataError(f"{where}: box of {name} is {_shown(value)}: give [x0, y0, x1, y1]")
    try:
        return Box.of(value)
    except A2EditError as error:
        raise DataError(f"{where}: box of {name}: {error}") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

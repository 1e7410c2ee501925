"""One sample looked at in full: every file read, decoded, and held against the json."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from a2edit.runtime.boxes import tight_box
from a2edit.runtime.errors import DataError
from a2edit.runtime.images import Pixels
from a2edit.training.datasets.findings import ERRORS, Finding
from a2edit.training.datasets.record import (
    FILES,
    NAMES,
    PARTS,
    Name,
    UniEditRecord,
    parse_record,
)
from a2edit.training.datasets.uniedit import Entry, UniEditSample
from a2edit.training.scenes import CATEGORIES


@dataclass(frozen=True, slots=True)
class Examined:
    """What a look at a sample gave.

    Attributes:
        record: None where the json cannot be read.
        digests: sha256 of the two pictures' files, by name, as far as they are there.
    """

    entry: Entry
    record: UniEditRecord | None
    digests: dict[Name, bytes]
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        return not any(finding.code in ERRORS for finding in self.findings)


def examine(entry: Entry, least: int) -> Examined:
    """Look at a sample; pictures whose shorter side is under `least` pixels are small."""
    findings: list[Finding] = []

    def note(code: str, detail: str) -> None:
        findings.append(Finding(code, entry.key, str(entry.unit), detail))

    if entry.missing:
        note("missing-file", f"lacks {', '.join(entry.missing)}")
    files: dict[str, bytes] = {}
    for part in entry.places:
        try:
            files |= entry.read(part)
        except DataError as error:
            note("broken-unit", str(error))
    digests = {part: hashlib.sha256(files[part]) for part in PARTS if part in files}
    pictures: dict[Name, bytes] = {n: digests[n].digest() for n in NAMES if n in digests}
    record = None
    if "json" in files:
        try:
            record = parse_record(files["json"], entry.where("json"))
        except DataError as error:
            note("bad-json", str(error))
    if record is None:
        return Examined(entry, None, pictures, tuple(findings))

    for code, detail in _of_record(entry, record):
        note(code, detail)
    for part, digest in digests.items():
        found, stated = digest.hexdigest(), record.sha256[part].lower()
        if found != stated:
            note("sha256-differs", f"{FILES[part]}: {found[:12]}…, the json says {stated[:12]}…")
    if "ref" in pictures and pictures["ref"] == pictures.get("src"):
        note("own-reference", "ref.jpg and src.jpg are one file")
    sample = UniEditSample(record, files, {part: FILES[part] for part in PARTS})
    for name in NAMES:
        for code, detail in _of_picture(sample, name, least):
            note(code, detail)
    return Examined(entry, record, pictures, tuple(findings))


def _of_record(entry: Entry, record: UniEditRecord) -> Iterator[tuple[str, str]]:
    if record.id != entry.name:
        yield "name-differs", f"id {record.id!r}, files {entry.name!r}"
    if record.category not in CATEGORIES:
        yield "unknown-category", f"{record.category!r}; UniEdit's are {', '.join(CATEGORIES)}"
    if not record.prompt.strip():
        yield "no-prompt", "the prompt is empty"


def _of_picture(sample: UniEditSample, name: Name, least: int) -> Iterator[tuple[str, str]]:
    picture, mask = None, None
    try:
        if name in sample.files:
            picture = sample.picture(name)
    except DataError as error:
        yield "unreadable-picture", str(error)
    try:
        if f"{name}_mask" in sample.files:
            mask = sample.grey_mask(name)
    except DataError as error:
        yield "unreadable-picture", str(error)
    if picture is not None:
        stated = sample.record.ref_size if name == "ref" else sample.record.src_size
        if _size(picture) != stated:
            yield "size-differs", f"{name} is {_shown(_size(picture))}, json: {_shown(stated)}"
        if min(_size(picture)) < least:
            yield "small-picture", f"{name} is {_shown(_size(picture))}, under {least}"
    if picture is not None and mask is not None and _size(picture) != _size(mask):
        yield (
            "mask-size",
            f"{name} is {_shown(_size(picture))}, its mask {_shown(_size(mask))}",
        )
    if mask is not None:
        yield from _of_mask(sample.record, name, mask, least)


def _of_mask(
    record: UniEditRecord, name: Name, mask: Pixels, least: int
) -> Iterator[tuple[str, str]]:
    levels = np.bincount(mask.reshape(-1), minlength=256)
    soft = int(levels[1:255].sum())
    if soft:
        yield "soft-mask", f"{name}_mask: {soft} pixels are neither 0 nor 255"
    if not levels[128:].any():
        yield "empty-mask", f"{name}_mask: the brightest of its pixels is {int(mask.max())}"
        return
    if not levels[:128].any():
        yield "full-mask", f"{name}_mask covers every pixel"
    box = tight_box(mask)
    stated = record.ref_box if name == "ref" else record.src_box
    if box != stated:
        yield "box-differs", f"{name}_mask has the tight box {box}, the json says {stated}"
    if max(box.width, box.height) * 8 < least:
        yield "small-object", f"{name}: the object is {box.width}x{box.height} pixels"


def _size(picture: Pixels) -> tuple[int, int]:
    return picture.shape[1], picture.shape[0]


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"

"""UniEdit samples on disk (SPEC §10): plain folders and WebDataset shards, by place.

Both are read by place and not as a stream: training asks for a sample by number, of a category,
and gets the same one whatever was read before. A shard is a plain tar, so the standard library's
tarfile tells where each file lies (it reads 512 bytes a file, and skips the pictures), and a
sample is then a seek and a read. The webdataset library streams, by design, and does not do this;
it expands patterns and writes shards here, and reads them in the tests.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from a2edit.runtime.errors import DataError
from a2edit.runtime.images import Picture, Pixels, load_picture
from a2edit.runtime.masks import binarise, selection
from a2edit.training.datasets.record import FILES, PARTS, Name, UniEditRecord, parse_record

_SUFFIXES = {suffix: part for part, suffix in FILES.items()}
Place = tuple[int, int]  # offset and size, bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the files of one sample lie; nothing of them has been read.

    Attributes:
        unit: a shard (a .tar), or the folder that `key` starts from.
        key: path within the unit without what follows the first dot of the name.
        places: by "json" and part; a file that is missing has none.
    """

    unit: Path
    key: str
    places: Mapping[str, Place]

    @property
    def name(self) -> str:
        """What the sample should call itself: the last part of its key."""
        return self.key.rpartition("/")[2]

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(FILES[part] for part in FILES if part not in self.places)

    def where(self, part: str) -> str:
        """How messages name one of its files."""
        return f"{FILES[part]} of sample {self.key!r} in {str(self.unit)!r}"

    def read(self, *parts: str) -> dict[str, bytes]:
        """The bytes of some of its files; raises DataError where one is not there in whole."""
        for part in parts:
            if part not in self.places:
                raise DataError(f"{self.where(part)} is missing: each sample has all of its files")
        try:
            if self.unit.suffix != ".tar":
                return {
                    part: (self.unit / f"{self.key}.{FILES[part]}").read_bytes() for part in parts
                }
            with self.unit.open("rb") as shard:
                return {part: self._from_shard(shard, part) for part in parts}
        except OSError as error:
            raise DataError(
                f"sample {self.key!r} in {str(self.unit)!r} cannot be read: "
                f"{error.strerror or error}"
            ) from None

    def _from_shard(self, shard: IO[bytes], part: str) -> bytes:
        offset, size = self.places[part]
        shard.seek(offset)
        data = shard.read(size)
        if len(data) != size:
            raise DataError(f"{self.where(part)} is cut off after {len(data)} of {size} bytes")
        return data

    def record(self) -> UniEditRecord:
        return parse_record(self.read("json")["json"], self.where("json"))

    def sample(self) -> UniEditSample:
        files = self.read(*FILES)
        record = parse_record(files.pop("json"), self.where("json"))
        return UniEditSample(record, files, {part: self.where(part) for part in PARTS})


@dataclass(frozen=True, slots=True)
class UniEditSample:
    """A record and its four files, encoded; `names` is what messages call them."""

    record: UniEditRecord
    files: Mapping[str, bytes]
    names: Mapping[str, str] = field(default_factory=dict)

    def picture(self, name: Name) -> Pixels:
        """u8 [H,W,3]; raises DataError for a file that cannot be decoded."""
        return decode(*self._file(name)).on_white()

    def mask(self, name: Name) -> Pixels:
        """Of the picture of that name: u8 [H,W], 0 or 255; may be empty."""
        return binarise(self.grey_mask(name))

    def grey_mask(self, name: Name) -> Pixels:
        """The mask as it is stored, u8 [H,W]."""
        return decode_mask(*self._file(f"{name}_mask"))

    def _file(self, part: str) -> tuple[bytes, str]:
        name = self.names.get(part, f"{FILES[part]} of sample {self.record.id!r}")
        return self.files[part], name


def decode(data: bytes, name: str) -> Picture:
    """A picture from its file's bytes; raises DataError that begins with `name`."""
    return load_picture(_opened(data, name), name)


def decode_mask(data: bytes, name: str) -> Pixels:
    """A mask's levels from its file's bytes, u8 [H,W]; an alpha channel is the object's opacity."""
    image = _opened(data, name)
    if image.mode == "L":  # what the format asks for; everything else takes the long way
        return np.array(image, np.uint8)
    return np.ascontiguousarray(selection(load_picture(image, name), "object"))


def _opened(data: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(BytesIO(data))
        image.load()
    except Exception as error:  # noqa: BLE001 - decoders share no base class
        reason = " ".join(str(error).split()) or type(error).__name__
        if "cannot identify image file" in reason:
            reason = "no picture of a known kind"
        raise DataError(
            f"{name} cannot be decoded ({len(data)} bytes): {reason}; "
            "put the file back whole, or leave the sample out"
        ) from None
    return image


def find_units(path: Path | str) -> tuple[Path, ...]:
    """The shards and folders of a data set, sorted.

    `path` is a folder (its shards, or, where it has none, its plain files), a shard, or a pattern
    of shards such as data-{0000..0003}.tar. Raises DataError where there is nothing to read.
    """
    text = os.fspath(path)
    if "{" in text and not Path(text).exists():
        return _expanded(text)
    place = Path(text)
    if place.is_file():
        if place.suffix != ".tar":
            raise DataError(f"data set {text!r} is no folder and no .tar: {_GIVE}")
        return (place,)
    if not place.is_dir():
        raise DataError(f"data set {text!r} does not exist: {_GIVE}")
    shards = tuple(sorted(place.rglob("*.tar")))
    return shards or (place,)


_GIVE = (
    "give a folder of samples or shards, a shard, or a pattern such as 'data-{0000..0003}.tar' "
    "(compressed shards must be unpacked to .tar first)"
)


def _expanded(pattern: str) -> tuple[Path, ...]:
    from webdataset.shardlists import expand_urls  # imports torch

    shards = tuple(Path(name) for name in expand_urls(pattern))
    absent = [str(shard) for shard in shards if not shard.is_file()]
    if absent:
        raise DataError(
            f"data set {pattern!r} names {len(shards)} shards, of which {len(absent)} do not "
            f"exist, such as {absent[0]!r}: check the numbers, or give the folder"
        )
    return shards


def entries(unit: Path) -> Iterator[Entry]:
    """The samples of a unit, incomplete ones too; no picture is read."""
    return _shard_entries(unit) if unit.suffix == ".tar" else _folder_entries(unit)


def split_name(name: str) -> tuple[str, str]:
    """A file's path as key and part; the part is empty for a file that is none of ours."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", _SUFFIXES.get(suffix, "")


def _shard_entries(unit: Path) -> Iterator[Entry]:
    """WebDataset's rule: the files of a sample stand next to each other."""
    key, places = "", dict[str, Place]()
    try:
        with tarfile.open(unit, "r:") as shard:
            while (member := shard.next()) is not None:
                # or it would keep a header for every file (typeshed does not know of it)
                shard.members.clear()  # type: ignore[attr-defined]
                member_key, part = split_name(member.name)
                if not member.isfile() or not part:
                    continue
                if member_key != key and places:
                    yield Entry(unit, key, places)
                    places = {}
                key = member_key
                places[part] = (member.offset_data, member.size)
            _require_end(shard, unit)
    except (tarfile.TarError, OSError) as error:
        after = f"after sample {key!r}" if key else "from its start"
        raise DataError(
            f"shard {str(unit)!r} cannot be read {after}: {error}; copy or write it again"
        ) from None
    if places:
        yield Entry(unit, key, places)


def _require_end(shard: tarfile.TarFile, unit: Path) -> None:
    """A block of zeros ends a tar; tarfile itself takes any damaged header for the end."""
    with unit.open("rb") as file:
        file.seek(shard.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"it is damaged or cut off at byte {shard.offset}")


def walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders below (and with) `folder`, sorted, and their files' names; hidden folders left out.

    Raises DataError for a folder that cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"folder {error.filename!r} cannot be listed: {error.strerror}") from None

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(place), names


def _folder_entries(unit: Path) -> Iterator[Entry]:
    """A sample is whatever has one of the five files; sorted by name, they stand together."""
    for folder, names in walk(unit):
        prefix = "" if folder == unit else f"{folder.relative_to(unit).as_posix()}/"
        sample, places = "", dict[str, Place]()
        for name in sorted(names, key=lambda name: name.split(".", 1)):
            stem, part = split_name(name)
            if not part:
                continue
            if stem != sample and places:
                yield Entry(unit, prefix + sample, places)
                places = {}
            sample = stem
            places[part] = (0, 0)
        if places:
            yield Entry(unit, prefix + sample, places)

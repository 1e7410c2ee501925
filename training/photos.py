"""A folder of pictures for the drawn scenes: photographs to stand in, cut-outs to place.

What a file is shows in the file, wherever it lies in the folder or below it:

- a picture with transparent parts, or with a mask beside it (`name_mask.png`, white where the
  object is), is a cut-out: an object of its own;
- any other picture is a photograph: a background, and a texture that drawn objects wear.

A cut-out's category is the nearest folder above it that names one ("animals", or a label such as
"dog"), or else a word of its file name ("red_car.png"); cut-outs that no word places count as
accessories, the widest of the eight. Its caption is the first line of a text file beside it
(`name.txt`), or the words of its name, or its category's name.

A tenth of the files, chosen by their paths, is kept for the held-out split, as soon as there are
ten of the sort.
"""

from __future__ import annotations

import re
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from a2edit.runtime.errors import DataError, RequestError
from a2edit.runtime.images import load_picture
from a2edit.runtime.layout import tight_box
from a2edit.training.scenes.kinds import CATEGORIES, Split

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_MASK_END = "_mask"
# Shorter side of a photograph and longer side of a cut-out in memory.
_PHOTOGRAPH_SIDE, _CUT_OUT_SIDE = 448, 512
_CACHE_BYTES = 384 << 20
_HELD_OUT_IN = 10
_LEAST_COVERED = 0.01
_TRIES, _LEAST_SPREAD = 4, 22.0
# What cameras and scanners call every picture names none.
_NO_NAMES = {
    "img",
    "dsc",
    "dscn",
    "dscf",
    "image",
    "photo",
    "picture",
    "pict",
    "scan",
    "screenshot",
}
_CAPTION_WORDS, _CAPTION_LETTERS = 4, 48
_SINGULAR = {
    "portraits": "person",
    "garments": "garment",
    "animals": "animal",
    "plants": "plant",
    "accessories": "thing",
    "furniture": "piece of furniture",
    "vehicles": "vehicle",
    "architecture": "building",
}


@dataclass(frozen=True, slots=True)
class CutOut:
    """An object: `picture` is RGBA and tight."""

    picture: Image.Image
    caption: str


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    mask: Path | None
    category: str
    caption: str
    held_out: bool


class Photos:
    """The pictures of a folder, decoded when they are needed and kept at a reduced size.

    The same folder and generator give the same pictures.
    """

    def __init__(
        self, photographs: Sequence[_File], cut_outs: Sequence[_File], cache_bytes: int
    ) -> None:
        self._photographs = {
            split: _of_split(photographs, split) for split in ("train", "held_out")
        }
        self._cut_outs = {
            (split, category): [
                file for file in _of_split(cut_outs, split) if file.category == category
            ]
            for split in ("train", "held_out")
            for category in CATEGORIES
        }
        self._cache: OrderedDict[Path, Image.Image] = OrderedDict()
        self._room = cache_bytes

    @classmethod
    def open(cls, folder: Path, cache_bytes: int = _CACHE_BYTES) -> Self:
        """List a folder's pictures and tell cut-outs from photographs.

        Raises DataError for a folder that is missing, holds no picture, or a broken one.
        """
        if not folder.is_dir():
            raise DataError(f"photos: {folder} is no folder: give one that holds pictures")
        paths = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not path.stem.lower().endswith(_MASK_END)
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
        if not paths:
            raise DataError(
                f"photos: {folder} holds no picture; "
                f"allowed are {', '.join(suffix[1:] for suffix in SUFFIXES)}, also in sub-folders"
            )
        # Decoders let other threads run.
        with ThreadPoolExecutor() as pool:
            cut = list(pool.map(_is_cut_out, paths))
        files = [_described(path, folder) for path in paths]
        return cls(
            [file for file, is_cut in zip(files, cut, strict=True) if not is_cut],
            [file for file, is_cut in zip(files, cut, strict=True) if is_cut],
            cache_bytes,
        )

    def count(self, split: Split = "train") -> dict[str, int]:
        """How many photographs there are, and cut-outs by category."""
        return {"photographs": len(self._photographs[split])} | {
            category: len(self._cut_outs[split, category]) for category in CATEGORIES
        }

    def background(self, size: int, split: Split, rng: np.random.Generator) -> Image.Image | None:
        """A random crop of a photograph as RGB [size, size]; None where there are none."""
        return self._crop(size, split, (0.55, 1.0), rng)

    def texture(self, size: int, split: Split, rng: np.random.Generator) -> Image.Image | None:
        """A smaller crop of a photograph, for an object to wear; None where there are none.

        Of a few crops, the first that shows more than a flat colour.
        """
        crop = None
        for _ in range(_TRIES):
            crop = self._crop(size, split, (0.25, 0.9), rng)
            if crop is None or np.asarray(crop.resize((16, 16))).std((0, 1)).max() > _LEAST_SPREAD:
                break
        return crop

    def cut_out(self, category: str, split: Split, rng: np.random.Generator) -> CutOut | None:
        """A cut-out of the category, mirrored half of the time; None where there are none."""
        files = self._cut_outs[split, category]
        if not files:
            return None
        file = files[rng.integers(len(files))]
        picture = self._picture(file, cut=True)
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return CutOut(picture, file.caption)

    def _crop(
        self, size: int, split: Split, share: tuple[float, float], rng: np.random.Generator
    ) -> Image.Image | None:
        files = self._photographs[split]
        if not files:
            return None
        picture = self._picture(files[rng.integers(len(files))], cut=False)
        side = min(picture.size) * rng.uniform(*share)
        x, y = rng.uniform(0, picture.width - side), rng.uniform(0, picture.height - side)
        crop = picture.resize((size, size), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
        return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop

    def _picture(self, file: _File, *, cut: bool) -> Image.Image:
        kept = self._cache.get(file.path)
        if kept is not None:
            self._cache.move_to_end(file.path)
            return kept
        picture = _cut(file) if cut else _photograph(file.path)
        self._cache[file.path] = picture
        self._room -= _bytes(picture)
        while self._room < 0 and len(self._cache) > 1:
            self._room += _bytes(self._cache.popitem(last=False)[1])
        return picture


def _bytes(picture: Image.Image) -> int:
    return picture.width * picture.height * len(picture.getbands())


def _of_split(files: Sequence[_File], split: str) -> list[_File]:
    if len(files) < _HELD_OUT_IN:
        return list(files) if split == "train" else []
    return [file for file in files if file.held_out == (split == "held_out")]


def _mask_of(path: Path) -> Path | None:
    for suffix in SUFFIXES:
        mask = path.with_name(f"{path.stem}{_MASK_END}{suffix}")
        if mask.is_file():
            return mask
    return None


def _is_cut_out(path: Path) -> bool:
    if _mask_of(path):
        return True
    try:
        with Image.open(path) as image:
            # Only a picture that can be transparent is worth decoding.
            if not (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info):
                return False
            alpha = image.convert("RGBA").getchannel("A")
            return alpha.getextrema() != (255, 255)
    except Exception as error:  # a broken header can make a decoder raise anything
        raise DataError(
            f"photos: {path} cannot be read ({error}): remove it, or save it again"
        ) from error


def _loaded(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    try:
        picture = load_picture(path, "photo")
    except RequestError as error:
        raise DataError(f"photos: {error}; or remove the file") from error
    return picture.rgb, picture.alpha


def _described(path: Path, folder: Path) -> _File:
    place = path.relative_to(folder)
    words = [word for word in re.split(r"[^a-z]+", path.stem.lower()) if len(word) > 1]
    category = next(
        (found for label in [*reversed(place.parts[:-1]), *words] if (found := _category(label))),
        "accessories",
    )
    return _File(
        path,
        _mask_of(path),
        category,
        _caption(path, words, category),
        zlib.crc32(place.as_posix().encode()) % _HELD_OUT_IN == 0,
    )


def _category(label: str) -> str | None:
    # The data sets import the scenes, which know of photographs.
    from a2edit.training.datasets.categories import category_of

    return category_of(label)


def _caption(path: Path, words: Sequence[str], category: str) -> str:
    beside = path.with_suffix(".txt")
    text = ""
    if beside.is_file():
        lines = beside.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        text = lines[0].strip().rstrip(".").lower() if lines else ""
    elif len(words) <= _CAPTION_WORDS and not _NO_NAMES.intersection(words):
        # A syllable is no name.
        text = " ".join(words) if all(len(word) > 2 for word in words) else ""
    if not text or len(text) > _CAPTION_LETTERS:
        text = _SINGULAR[category]
    if text.split()[0] in ("a", "an", "the"):
        return text
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _fitted(image: Image.Image, scale: float) -> Image.Image:
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _photograph(path: Path) -> Image.Image:
    image = Image.fromarray(_loaded(path)[0])
    return _fitted(image, _PHOTOGRAPH_SIDE / min(image.size))


def _cut(file: _File) -> Image.Image:
    rgb, alpha = _loaded(file.path)
    if file.mask is not None:
        mask = Image.fromarray(_loaded(file.mask)[0]).convert("L")
        if mask.size != (rgb.shape[1], rgb.shape[0]):
            raise DataError(
                f"photos: {file.mask} is {mask.width}x{mask.height}, its picture is "
                f"{rgb.shape[1]}x{rgb.shape[0]}: give a mask of the same size"
            )
        alpha = np.asarray(mask)
    if alpha is None or (alpha >= 128).mean() < _LEAST_COVERED:
        raise DataError(
            f"photos: nothing of {file.path} is opaque: give it an object, or remove it"
        )
    solid = tight_box(np.where(alpha >= 128, np.uint8(255), np.uint8(0)))
    image = Image.fromarray(np.dstack([rgb, alpha]))
    image = image.crop((solid.x0, solid.y0, solid.x1, solid.y1))
    return _fitted(image, _CUT_OUT_SIDE / max(image.size))

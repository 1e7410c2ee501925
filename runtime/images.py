"""Pictures in, pictures out: paths, PIL images and arrays become u8 RGB, and come back as files.

What every kind of picture means:
- EXIF orientation is applied, so pixels are where a viewer shows them.
- 16-bit grey (I;16 PNG, TIFF) and Pillow's "I" count from 0 to 65535; floats from 0 to 1.
- Palette, CMYK, Lab, YCbCr and grey become RGB by Pillow's own conversions.
- Alpha is kept apart. The colours under it stay as stored (what diffusers and ComfyUI call
  the RGB of such a file); `Picture.on_white` is what a viewer sees, and what the model sees.
- Of an animation, the first frame.
"""

import os
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from a2edit.runtime.errors import RequestError

Pixels: TypeAlias = NDArray[np.uint8]
ImageSource: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture; `name` is what messages call it."""

    name: str
    rgb: Pixels  # [H, W, 3], as stored
    alpha: Pixels | None = None  # [H, W]; None where there is none or it is opaque everywhere
    icc: bytes | None = None  # the RGB colour profile, carried through to the result

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.rgb.shape[1], self.rgb.shape[0]

    def on_white(self) -> Pixels:
        """u8 [H, W, 3]: composited on white; the same array where there is no alpha."""
        if self.alpha is None:
            return self.rgb
        opacity = self.alpha.astype(np.uint32)[..., None]
        return ((self.rgb * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def describe(source: ImageSource, role: str) -> str:
    """How messages name a picture: by its path where it has one."""
    if isinstance(source, str | os.PathLike):
        return f"{role} {os.fspath(source)!r}"
    return f"the {role}"


def load_picture(source: ImageSource, role: str) -> Picture:
    """Decode `source`; `role` ("image", "mask", "reference") names it in messages.

    Raises RequestError for a missing, unreadable, empty or unknown picture.
    """
    name = describe(source, role)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    if isinstance(source, Image.Image):
        return _from_pil(source, name)
    if isinstance(source, str | os.PathLike):
        with _opened(Path(source), name) as image:
            return _from_pil(image, name)
    raise RequestError(
        f"{name} is a {type(source).__name__}: give a path, a PIL image, or a numpy array"
    )


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            # large pictures are welcome; Pillow refuses on its own what no memory would hold
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except (FileNotFoundError, NotADirectoryError):
        raise RequestError(f"{name} does not exist: check the path") from None
    except IsADirectoryError:
        raise RequestError(
            f"{name} is a folder: give an image file (PNG, JPEG, WebP, TIFF …)"
        ) from None
    except UnidentifiedImageError:
        raise RequestError(
            f"{name} is not an image that can be read ({path.stat().st_size} bytes): "
            "give a PNG, JPEG, WebP, TIFF or BMP file"
        ) from None
    except Image.DecompressionBombError as error:
        raise RequestError(f"{name} is too large: {error}; scale it down first") from None
    except Exception as error:  # a broken header can make a decoder raise anything
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{name} cannot be read: {reason}") from error
    with image:
        yield image


def _from_pil(image: Image.Image, name: str) -> Picture:
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        rgb, alpha = _channels(upright)
    except (Image.DecompressionBombError, MemoryError) as error:
        raise RequestError(
            f"{name} is too large ({image.width}x{image.height}): "
            f"{str(error) or 'out of memory'}; scale it down first"
        ) from error
    except Exception as error:  # decoders share no base class: AVIF's raises RuntimeError
        raise RequestError(
            f"{name} is damaged or of an unknown kind (mode {image.mode}): {error}; "
            "save it again as PNG"
        ) from error
    if 0 in rgb.shape:
        raise RequestError(f"{name} has no pixels")
    opaque = alpha is None or bool((alpha == 255).all())
    return Picture(name, rgb, None if opaque else alpha, _rgb_profile(image))


def _channels(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    """Split a Pillow image of any mode into RGB and, where the mode has one, alpha."""
    if image.mode.startswith("I") or image.mode == "F":
        return _grey(_eight_bits(np.asarray(image))), None
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba: Pixels = np.array(image.convert("RGBA"), np.uint8)
        return np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])
    return np.array(image.convert("RGB"), np.uint8), None


def _eight_bits(values: NDArray[Any]) -> Pixels:
    """Integers of 0..65535 (or floats: 0..1, or 0..255 when any exceeds 1) to u8."""
    white = 65535.0
    if np.issubdtype(values.dtype, np.floating):
        values = np.nan_to_num(values)
        white = 1.0 if float(values.max(initial=0.0)) <= 1.0 else 255.0
    levels: NDArray[np.float32] = np.clip(values.astype(np.float32) / white, 0, 1)
    return np.rint(levels * 255).astype(np.uint8)


def _grey(values: Pixels) -> Pixels:
    return np.repeat(values[..., None], 3, axis=2)


def _rgb_profile(image: Image.Image) -> bytes | None:
    """The ICC profile, where it describes RGB and the pixels were RGB all along."""
    profile = image.info.get("icc_profile")
    fits = isinstance(profile, bytes) and profile[16:20] == b"RGB "
    return profile if fits and image.mode in ("RGB", "RGBA") else None


def _from_array(array: NDArray[Any], name: str) -> Picture:
    allowed = "give [H,W], [H,W,1], [H,W,3] or [H,W,4] of uint8, uint16, bool, or floats in 0..1"
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise RequestError(f"{name} is an array of shape {list(array.shape)}: {allowed}")
    if array.size == 0:
        raise RequestError(f"{name} is an array without pixels, shape {list(array.shape)}")
    if array.dtype == np.bool_:
        pixels = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint8:
        pixels = array
    elif array.dtype == np.uint16:
        pixels = _eight_bits(array)
    elif np.issubdtype(array.dtype, np.floating):
        if not bool(np.isfinite(array).all()) or array.min() < 0 or array.max() > 1:
            raise RequestError(
                f"{name} is a {array.dtype} array with values outside 0..1 "
                f"({array.min()} to {array.max()}): divide by its white, or give uint8"
            )
        pixels = np.round(array * 255).astype(np.uint8)
    else:
        raise RequestError(f"{name} is an array of {array.dtype}: {allowed}")
    if channels == 1:
        return Picture(name, _grey(pixels.reshape(pixels.shape[:2])))
    alpha = np.ascontiguousarray(pixels[..., 3]) if channels == 4 else None
    opaque = alpha is None or bool((alpha == 255).all())
    return Picture(name, np.ascontiguousarray(pixels[..., :3]), None if opaque else alpha)


# ------------------------------------------------------------------ writing


SAVE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


def check_output(path: Path, role: str = "output") -> Path:
    """Refuse, before any work is done, a file that could not be written at the end."""
    if path.suffix.lower() not in SAVE_SUFFIXES:
        raise RequestError(
            f"{role} {str(path)!r} has the suffix {path.suffix!r}: "
            f"use one of {' '.join(SAVE_SUFFIXES)}"
        )
    try:
        is_folder = path.is_dir()
    except OSError as error:  # such as a name that is too long
        raise RequestError(f"{role} {str(path)!r} cannot be written: {error.strerror}") from None
    if is_folder:
        raise RequestError(f"{role} {str(path)!r} is a folder: give a file name")
    if not path.parent.is_dir():
        raise RequestError(
            f"{role} {str(path)!r}: the folder {str(path.parent)!r} does not exist: "
            "create it first, or write elsewhere"
        )
    if not os.access(path.parent, os.W_OK):
        raise RequestError(f"{role} {str(path)!r}: the folder {str(path.parent)!r} is not writable")
    return path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes it on success and vanishes on failure."""
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise RequestError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        with suppress(OSError, ValueError):  # there, gone, or never a name at all
            temporary.unlink()


def save_picture(image: Image.Image, path: Path, text: Mapping[str, str] | None = None) -> None:
    """Write `image` whole or not at all; `text` goes into a PNG's text chunks.

    Formats without alpha get the picture composited on white.
    """
    check_output(path)
    options: dict[str, Any] = {}
    if profile := image.info.get("icc_profile"):
        options["icc_profile"] = profile
    suffix = path.suffix.lower()
    if suffix == ".png":
        chunks = PngImagePlugin.PngInfo()
        for key, value in (text or {}).items():
            chunks.add_text(key, value)
        options["pnginfo"] = chunks
    elif suffix in (".jpg", ".jpeg"):
        options |= {"quality": 95, "subsampling": 0}
    elif suffix == ".webp":
        options["lossless"] = True
    if image.mode == "RGBA" and suffix in (".jpg", ".jpeg", ".bmp"):
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    with atomic_path(path) as temporary:
        try:
            image.save(temporary, **options)
        except (ValueError, struct.error) as error:  # WebP ends at 16383 pixels a side
            raise RequestError(f"cannot write {str(path)!r}: {error}; use PNG") from error

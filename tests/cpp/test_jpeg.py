"""JPEG files of every kind mean the same in C++: Pillow's pixels, to the bit."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

SIZES = ((1, 1), (5, 3), (16, 16), (53, 37), (321, 240), (1, 64), (300, 7))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def scene(width: int, height: int, *, noise: bool) -> Image.Image:
    if noise:
        pixels: NDArray[Any] = np.random.default_rng(0).integers(
            0, 256, (height, width, 3), np.uint8
        )
    else:
        y, x = np.mgrid[:height, :width]
        pixels = np.stack([(3 * x + y) % 256, 2 * y % 256, x * y // 7 % 256], -1).astype(np.uint8)
    return Image.fromarray(pixels)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    room, ImageFile.MAXBLOCK = ImageFile.MAXBLOCK, 1 << 20  # Pillow's own is small for noise
    try:
        image.save(file, "JPEG", **options)
    finally:
        ImageFile.MAXBLOCK = room
    return file.getvalue()


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("quality", [1, 30, 75, 95, 100])
@pytest.mark.parametrize("size", SIZES)
def test_every_kind(same_picture: Any, size: tuple[int, int], quality: int, noise: bool) -> None:
    image = scene(*size, noise=noise)
    kinds: list[dict[str, Any]] = [
        *({"subsampling": s, "progressive": p} for s in range(3) for p in (False, True)),
        {"restart_marker_blocks": 3},
        {"keep_rgb": True},
    ]
    for options in kinds:
        assert same_picture(jpeg(image, quality=quality, **options)) == "ok"
    for mode in ("L", "CMYK"):
        assert same_picture(jpeg(image.convert(mode), quality=quality)) == "ok"


def with_segment(file: bytes, marker: int, body: bytes) -> bytes:
    """Behind JFIF's."""
    return file[:20] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + file[20:]


@pytest.mark.parametrize("density", [None, (72, 72)])
@pytest.mark.parametrize("orientation", range(10))
def test_orientation(same_picture: Any, orientation: int, density: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"dpi": density} if density else {}
    assert same_picture(jpeg(scene(20, 11, noise=True), exif=exif, **options)) == "ok"


@pytest.mark.parametrize("density", [None, (72, 72)])
@pytest.mark.parametrize(
    "exif",
    [b"", b"II*\0", b"XX*\0\0\0\0\0", b"II+\0\0\0\0\x08", b"MM\0*\0\0\0\x08"],
    ids=["none", "short", "unknown", "BigTIFF", "cut off"],
)
def test_broken_exif(same_picture: Any, exif: bytes, density: Any) -> None:
    """Pillow passes it over where it looked for the density there, and refuses the picture else."""
    options = {"dpi": density} if density else {}
    file = jpeg(scene(9, 8, noise=True), **options)
    same_picture(with_segment(file, 0xE1, b"Exif\0\0" + exif))


def test_what_stands_beside_the_pixels(same_picture: Any) -> None:
    image = scene(9, 8, noise=True)
    large = bytes(16) + b"RGB " + bytes(100_000)  # in two segments
    profiles = [SRGB, large, bytes(16) + b"GRAY" + bytes(9), b"short"]
    for profile in profiles:
        same_picture(jpeg(image, icc_profile=profile))
        same_picture(jpeg(image.convert("L"), icc_profile=profile))
    file = jpeg(image)
    for marker, body in [
        (0xE1, b'http://ns.adobe.com/xap/1.0/\0tiff:Orientation="6"'),
        (0xE2, b"ICC_PROFILE\0\1\2" + bytes(16) + b"RGB "),  # one of two
        (0xE2, b"ICC_PROFILE\0"),
        (0xED, b"Photoshop 3.0\x008BIM\4\4\0\0"),
        (0xED, b"Photoshop 3.0\x008BIM\4\4"),
        (0xEE, b"Adobe"),
        (0xE0, b"JFIF"),
        (0xDB, b"\0short"),
        (0xC0, b"\x0c\0\1\0\1\3"),
        (0xFE, b"a comment"),
        (0xDD, b""),
    ]:
        same_picture(with_segment(file, marker, body))

"""Damaged files: C++ sees what Pillow sees in them, refuses in its words, and never falls over."""

import io
import random
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from a2edit.runtime.errors import RequestError

Y, X = np.mgrid[:40, :57]
SCENE = Image.fromarray(np.stack([(3 * X + Y) % 256, 2 * Y, X * Y // 9 % 256], -1).astype(np.uint8))
EXIF = Image.Exif()
EXIF[0x0112] = 6
BESIDE = {
    "exif": EXIF,
    "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
}
DEEP = Image.fromarray((X * 1000 + Y * 77).astype(np.uint16))


def file(image: Image.Image, kind: str, **options: Any) -> bytes:
    whole = io.BytesIO()
    image.save(whole, kind, **options)
    return whole.getvalue()


FILES = {
    "photo.jpg": file(SCENE, "JPEG", quality=80, **BESIDE),
    "progressive.jpg": file(SCENE, "JPEG", progressive=True),
    "print.jpg": file(SCENE.convert("CMYK"), "JPEG"),
    "grey.jpg": file(SCENE.convert("L"), "JPEG", restart_marker_blocks=2),
    "long.jpg": file(SCENE.resize((400, 300)), "JPEG", quality=100, subsampling=0),
    "scene.png": file(SCENE, "PNG", **BESIDE),
    "cut-out.png": file(SCENE.convert("RGBA"), "PNG"),
    "palette.png": file(SCENE.quantize(16), "PNG", transparency=3),
    "deep.png": file(DEEP, "PNG"),
    "mask.png": file(SCENE.convert("1"), "PNG"),
}


def damaged(whole: bytes, chance: random.Random) -> bytes:
    broken = bytearray(whole)
    for _ in range(chance.choice([1, 1, 2, 4])):
        place = chance.randrange(len(broken) if chance.random() < 0.6 else min(len(broken), 400))
        match chance.randrange(5):
            case 0:
                broken[place] = chance.randrange(256)
            case 1:
                broken[place] ^= 1 << chance.randrange(8)
            case 2:
                del broken[place : place + chance.randrange(1, 20)]
            case 3:
                broken[place:place] = chance.randbytes(3)
            case _:
                broken[place : place + 4] = chance.choice([b"\xff", b"\0"]) * 4
    return bytes(broken)


def mended(png: bytes) -> bytes:
    """With sums that fit the chunks again, so that what is inside of them is read at all."""
    out, at = bytearray(png), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


@pytest.mark.parametrize("name", FILES)
def test_of_a_broken_file_both_see_the_same(same_picture: Any, name: str) -> None:
    chance = random.Random(name)
    said = set()
    for number in range(150):
        broken = damaged(FILES[name], chance)
        said.add(
            same_picture(mended(broken) if name.endswith("png") and number % 2 else broken)[-30:]
        )
    assert len(said) > 2  # some are read, and some refused


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off(same_picture: Any, name: str) -> None:
    whole = FILES[name]
    for length in {*range(0, 60, 7), *range(60, len(whole), max(len(whole) // 40, 1))}:
        same_picture(whole[:length])


@pytest.mark.parametrize("start", [b"", b"\x89PNG", b"\xff\xd8", b"plain text"])
def test_what_is_no_picture(same_picture: Any, start: bytes) -> None:
    assert same_picture(start + bytes(40)).endswith("give a PNG or JPEG file")


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "WebP"])
def test_pictures_that_python_alone_reads(probe: Any, kind: str) -> None:
    whole = file(SCENE, kind)
    with pytest.raises(RequestError) as found:
        probe("decode", whole, len(whole), "image 'a'")
    size = f"({len(whole)} bytes)"
    text = f"image 'a' is not an image that can be read here {size}: give a PNG or JPEG file"
    assert str(found.value) == text


def test_thousands_of_damaged_files_end_no_process(cpp_build: Path, tmp_path: Path) -> None:
    for name, whole in FILES.items():
        (tmp_path / name).write_bytes(whole)
    program = cpp_build / "tests" / "a2edit_damage"
    done = subprocess.run(
        [program, tmp_path, "2000", "1"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    decoded, refused = map(int, done.stdout.split())
    assert decoded + refused == 2000 * len(FILES)
    assert min(decoded, refused) > 1000

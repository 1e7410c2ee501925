"""Pictures out of C++: files that Pillow reads back whole, and refusals in Python's words."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from a2edit.runtime.errors import RequestError
from a2edit.runtime.images import check_output, load_picture, save_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LARGE = bytes(16) + b"RGB " + bytes(np.random.default_rng(0).integers(0, 256, 150_000, np.uint8))


def noise(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    shape = (height, width, channels)[: 2 if channels == 1 else 3]
    return np.random.default_rng(channels).integers(0, 256, shape, np.uint8)


def encoded(
    probe: Any, kind: str, pixels: NDArray[np.uint8], icc: bytes = b"", *text: str
) -> bytes:
    shape = (*pixels.shape, 1)[:3]
    probe("encode", kind, pixels, *shape, icc, len(icc), *(text or ("", "")))
    return bytes(probe.made().tobytes())


@pytest.mark.parametrize("icc", [b"", SRGB, LARGE, b"what libpng would not call a profile"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png(probe: Any, channels: int, icc: bytes) -> None:
    pixels = noise(31, 47, channels)
    image = Image.open(io.BytesIO(encoded(probe, "png", pixels, icc)))
    np.testing.assert_array_equal(np.asarray(image), pixels)
    assert image.info.get("icc_profile", b"") == icc


@pytest.mark.parametrize("value", ["", "a2edit", "bloß σ=0.5 \U0001f58c", "x" * 5000])
def test_text_of_a_png(probe: Any, value: str) -> None:
    file = encoded(probe, "png", noise(4, 5, 3), b"", "a2edit:route", value)
    image = Image.open(io.BytesIO(file))
    assert isinstance(image, PngImagePlugin.PngImageFile)
    assert image.text == {"a2edit:route": value}


@pytest.mark.parametrize("icc", [b"", SRGB, LARGE])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg(probe: Any, tmp_path: Path, channels: int, icc: bytes) -> None:
    """The pixels of the file that Python writes."""
    pixels = noise(31, 47, channels)
    image = Image.open(io.BytesIO(encoded(probe, "jpeg", pixels, icc)))
    save_picture(Image.fromarray(pixels), tmp_path / "a.jpg")
    np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(tmp_path / "a.jpg")))
    assert image.info.get("icc_profile", b"") == icc


def test_a_picture_too_large_for_jpeg(probe: Any) -> None:
    with pytest.raises(RequestError, match=r"70000x1 is too large for JPEG, .* use PNG"):
        encoded(probe, "jpeg", noise(1, 70_000, 1))


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "b/../a.jpeg", ".hidden.png", "it's ü.png"])
def test_files_are_written_whole(probe: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "b").mkdir()
    path = tmp_path / name
    probe("save_picture", noise(20, 30, 3), 20, 30, 3, str(path))
    assert Image.open(path).size == (30, 20)
    assert sorted(tmp_path.rglob("*")) == sorted([tmp_path / "b", path.resolve()])


def test_a_file_that_cannot_take_its_place(probe: Any, tmp_path: Path) -> None:
    """Nothing is left behind."""
    long = "a" * 250 + ".png"  # a name that no temporary one fits beside
    with pytest.raises(RequestError) as expected:
        save_picture(Image.new("RGB", (2, 2)), tmp_path / long)
    with pytest.raises(RequestError) as found:
        probe("save_picture", noise(2, 2, 3), 2, 2, 3, str(tmp_path / long))
    assert str(found.value) == str(expected.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "path",
    [
        *("folder.png", "missing/a.png", "a.png/b.png", "./x//y/./z.png", "//no/a.png"),
        *("///no/a.png", "a" * 300 + ".png", "missing/it's.png"),
    ],
)
def test_what_cannot_be_written(
    probe: Any, same_refusal: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "a.png").touch()
    same_refusal(
        lambda: check_output(Path(path), "--out"), lambda: probe("check_output", path, "--out")
    )


@pytest.mark.parametrize("path", ["a", "a.", ".png", "folder/", "a.png.txt", ".", "/"])
def test_suffixes(probe: Any, path: str) -> None:
    """Python's words, but for the suffixes that only Python offers."""
    with pytest.raises(RequestError) as expected:
        check_output(Path(path))
    with pytest.raises(RequestError) as found:
        probe("check_output", path, "output")
    offered = ".png .jpg .jpeg .webp .tif .tiff .bmp"
    assert str(found.value) == str(expected.value).replace(offered, ".png .jpg .jpeg")


def test_formats_of_python_alone(probe: Any) -> None:
    with pytest.raises(RequestError, match=r"has the suffix '.webp': use one of .png .jpg .jpeg"):
        probe("check_output", "a.webp", "output")


@pytest.mark.parametrize("path", ["lost.png", "a.png/b.png", "folder", "", "n" * 300, "it's.png"])
def test_what_cannot_be_opened(
    probe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.png").touch()
    with pytest.raises(RequestError) as expected:
        load_picture(path, "mask")
    with pytest.raises(RequestError) as found:
        probe("load_picture", path, "mask")
    text = str(expected.value).replace("(PNG, JPEG, WebP, TIFF …)", "(PNG or JPEG)")
    assert str(found.value) == text

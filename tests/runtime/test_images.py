"""Pictures of every kind come in as u8 RGB, and go out whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from a2edit.runtime.errors import RequestError
from a2edit.runtime.images import load_picture, save_picture

RGB = np.random.default_rng(1).integers(0, 256, (12, 20, 3), np.uint8)


def test_paths_pictures_and_arrays_agree(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    for source in (path, str(path), Image.fromarray(RGB), RGB, RGB / 255.0):
        np.testing.assert_array_equal(load_picture(source, "image").rgb, RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    undo = [None, 0, 3, 1, 5, 2, 6, 4][orientation - 1]
    upright = Image.fromarray(RGB)
    stored = upright if undo is None else upright.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_picture(tmp_path / "a.png", "image").rgb, RGB)


def test_sixteen_bits(tmp_path: Path) -> None:
    grey = np.array([[0, 257 * 100, 65535]], np.uint16)
    for suffix in ("png", "tif", "pgm"):
        Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
        picture = load_picture(tmp_path / f"a.{suffix}", "image")
        np.testing.assert_array_equal(picture.rgb[0, :, 1], [0, 100, 255])
    np.testing.assert_array_equal(load_picture(grey, "image").rgb[0, :, 1], [0, 100, 255])
    floats = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    np.testing.assert_array_equal(load_picture(floats, "image").rgb[0, :, 1], [0, 128, 255])


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "1", "YCbCr", "LAB", "HSV"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    image = (
        ImageCms.profileToProfile(
            Image.fromarray(RGB),
            ImageCms.createProfile("sRGB"),
            ImageCms.createProfile("LAB"),
            outputMode="LAB",
        )
        if mode == "LAB"
        else Image.fromarray(RGB).convert(mode)
    )
    assert image is not None
    picture = load_picture(image, "image")
    assert picture.rgb.shape == (12, 20, 3)
    assert picture.alpha is None


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_alpha_is_kept_apart(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (10, 10, 10, 255))
    image.putpixel((1, 2), (10, 10, 10, 0))
    if mode == "PA":
        image = image.convert("P").convert("PA")
        image.putalpha(Image.new("L", (4, 4), 7))
    elif mode.startswith("L"):
        image = image.convert("LA").convert(mode)
    else:
        image = image.convert(mode)
    picture = load_picture(image, "image")
    assert picture.alpha is not None
    white = picture.on_white()
    assert white[2, 1].min() >= 240 or mode == "PA"


def test_an_opaque_alpha_is_none_and_colours_under_alpha_stay() -> None:
    opaque = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    assert load_picture(opaque, "image").alpha is None
    hidden = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    picture = load_picture(hidden, "image")
    np.testing.assert_array_equal(picture.rgb, RGB)
    assert (picture.on_white() == 255).all()


def test_palette_transparency_counts(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.save(tmp_path / "a.png", transparency=0)
    picture = load_picture(tmp_path / "a.png", "image")
    np.testing.assert_array_equal(picture.alpha, [[0, 255]])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"shape \[4, 4, 2\]"),
        (np.zeros(4, np.uint8), r"shape \[4\]"),
        (np.zeros((0, 4, 3), np.uint8), "without pixels"),
        (np.zeros((4, 4), np.int32), "array of int32"),
        (np.full((4, 4), 200.0), "outside 0..1"),
        (np.full((4, 4), np.nan), "outside 0..1"),
        ("nowhere.png", "'nowhere.png' does not exist"),
        (3, "is a int: give a path, a PIL image, or a numpy array"),
    ],
)
def test_what_is_no_picture_is_refused(source: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load_picture(source, "image")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["text", "empty", "folder", "truncated"])
def test_broken_files_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "broken.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        Image.fromarray(RGB.repeat(20, 0)).save(path)
        path.write_bytes(path.read_bytes()[:900])
    else:
        path.write_bytes(b"hello" if kind == "text" else b"")
    with pytest.raises(RequestError, match=r"broken\.png"):
        load_picture(path, "image")


def test_paths_that_no_system_takes_are_refused(tmp_path: Path) -> None:
    long = tmp_path / f"{'a' * 300}.png"
    for name in (long, tmp_path / "a\0b.png", tmp_path / "\ud800.png"):
        with pytest.raises(RequestError, match="image "):
            load_picture(name, "image")
        with pytest.raises(RequestError):
            save_picture(Image.fromarray(RGB), name)
    assert not list(tmp_path.iterdir())


def test_a_decoder_may_raise_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    for error in (RuntimeError("Failed to decode frame 0"), EOFError("no more"), MemoryError()):

        def load(_self: Image.Image, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
        with pytest.raises(RequestError, match=r"a\.png' is (damaged|too large)"):
            load_picture(tmp_path / "a.png", "image")


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    for suffix in ("webp", "jpg"):
        with pytest.raises(RequestError, match=rf"cannot write .*a\.{suffix}"):
            save_picture(Image.new("RGB", (70000, 1)), tmp_path / f"a.{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "bmp", "jpg"])
def test_saving(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    save_picture(Image.fromarray(RGB), path, {"a2edit:seed": "3"})
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    if suffix != "jpg":
        np.testing.assert_array_equal(np.asarray(Image.open(path).convert("RGB")), RGB)
    if suffix == "png":
        assert Image.open(path).info["a2edit:seed"] == "3"


def test_the_colour_profile_comes_along(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB).save(tmp_path / "a.png", icc_profile=profile)
    assert load_picture(tmp_path / "a.png", "image").icc == profile
    Image.fromarray(RGB).convert("L").save(tmp_path / "g.png", icc_profile=profile)
    assert load_picture(tmp_path / "g.png", "image").icc is None


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.png").write_bytes(b"the old one")

    def full(_self: Image.Image, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(RequestError, match=r"cannot write .*out\.png.*No space left"):
        save_picture(Image.fromarray(RGB), tmp_path / "out.png")
    assert [item.name for item in tmp_path.iterdir()] == ["out.png"]
    assert (tmp_path / "out.png").read_bytes() == b"the old one"


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.xyz", "suffix '.xyz'"), ("a", "suffix ''"), ("no/a.png", "does not exist: create")],
)
def test_bad_outputs_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        save_picture(Image.fromarray(RGB), tmp_path / name)

"""PNG files of every kind mean the same in C++: pixels, alpha, profile, orientation, refusals.

The files are made here, chunk by chunk, since Pillow writes few of the kinds that it reads.
"""

import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ImageCms

Array = NDArray[Any]
Chunk = tuple[bytes, bytes]
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8)} | dict.fromkeys(
    (GREY_ALPHA, RGBA), (8, 16)
)
# left, top and steps of the passes of an interlaced file
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
PASSES = (*ADAM7, (0, 1, 1, 2))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 7, 3))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def packed(row: Array, bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    places = np.arange(bits)[::-1]
    return np.packbits(row[..., None] >> places & 1).tobytes()


def filtered(rows: Iterable[bytes], reach: int, random: np.random.Generator) -> bytes:
    """Each row by a filter drawn at random; `reach` is a pixel in bytes."""
    out, above = b"", b""
    for row in rows:
        kind = int(random.integers(0, 5))
        above = above or bytes(len(row))
        line = bytearray([kind])
        for index, value in enumerate(row):
            left = row[index - reach] if index >= reach else 0
            corner = above[index - reach] if index >= reach else 0
            up = above[index]
            nearest = min((left, up, corner), key=lambda near: abs(left + up - corner - near))
            guess = (0, left, up, (left + up) // 2, nearest)[kind]
            line.append((value - guess) & 255)
        out, above = out + bytes(line), row
    return out


def png(
    samples: Array,
    bits: int = 8,
    colours: int = RGB,
    *,
    interlaced: bool = False,
    before: Iterable[Chunk] = (),
    after: Iterable[Chunk] = (),
    pieces: int = 1,
    size: tuple[int, int] | None = None,
) -> bytes:
    height, width, channels = samples.shape
    random = np.random.default_rng(1)
    grids = [samples[y::dy, x::dx] for x, y, dx, dy in PASSES] if interlaced else [samples]
    rows = [[packed(row.reshape(-1), bits) for row in grid] for grid in grids if grid.size]
    data = b"".join(filtered(grid, max(1, bits * channels // 8), random) for grid in rows)
    data = zlib.compress(data)
    step = -(-len(data) // pieces)
    header = (*(size or (width, height)), bits, colours, 0, 0, interlaced)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *header)), *before]
    chunks += [(b"IDAT", data[start : start + step]) for start in range(0, len(data), step)]
    chunks += [*after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def samples_of(colours: int, bits: int, height: int, width: int) -> Array:
    shape = height, width, CHANNELS[colours]
    return np.random.default_rng(height).integers(0, 1 << bits, shape)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("colours", "bits"), [(c, b) for c, depths in DEPTHS.items() for b in depths]
)
def test_every_kind(same_picture: Any, colours: int, bits: int, interlaced: bool) -> None:
    palette = np.random.default_rng(2).integers(0, 256, 3 << bits, np.uint8).tobytes()
    for height, width in [(1, 1), (3, 5), (9, 9), (2, 17), (37, 29), (5, 1)]:
        samples = samples_of(colours, bits, height, width)
        first = [int(value) for value in samples[0, 0]]
        extras: list[list[Chunk]] = [[]]
        if colours == PALETTE:
            alphas = (b"\0", b"\xff\0\xff", b"\x0c\0\x63", b"\xff\xff\xff", b"", bytes(300))
            extras = [[(b"PLTE", palette), (b"tRNS", alpha)] for alpha in alphas]
            extras += [[(b"PLTE", colour)] for colour in (palette, palette[:3], palette[:5], b"")]
            extras += [[], [(b"PLTE", palette + bytes(900))]]
        if colours == GREY:
            greys = (first[0], 255, 256 + first[0])
            extras += [[(b"tRNS", struct.pack(">H", grey))] for grey in greys] + [[(b"tRNS", b"a")]]
        if colours == RGB:
            extras += [
                [(b"tRNS", struct.pack(">3H", *(v >> shift for v in first)))] for shift in (0, 8)
            ]
            extras += [[(b"tRNS", b"short")]]
        for extra in extras:
            for pieces in (1, 3):
                file = png(
                    samples, bits, colours, interlaced=interlaced, before=extra, pieces=pieces
                )
                same_picture(file)


def directory(value: bytes, kind: int = 3, count: int = 1, *, big: bool = False) -> bytes:
    """EXIF with nothing but an orientation."""
    order = ">" if big else "<"
    start = b"MM\0*" if big else b"II*\0"
    return start + struct.pack(f"{order}IHHHI", 8, 1, 0x112, kind, count) + value + bytes(4)


EXIF = [
    *(directory(struct.pack("<HH", turn, 0)) for turn in range(10)),
    *(directory(struct.pack(">HH", turn, 0), big=True) for turn in (3, 6)),
    *(directory(struct.pack("<HH", 6, 0), kind) for kind in range(20)),
    directory(struct.pack("<HH", 6, 0), count=0),
    directory(struct.pack("<HH", 8, 3), count=2),
    directory(struct.pack("<I", 26), 5) + struct.pack("<II", 6, 1),
    directory(struct.pack("<I", 26), 5) + struct.pack("<II", 6, 0),
    directory(struct.pack("<I", 26), 12) + struct.pack("<d", 3.0),
    directory(struct.pack("<f", 7.0), 11),
    directory(struct.pack("<I", 260), 5),
    *(directory(struct.pack("<HH", 6, 0))[:length] for length in (0, 3, 4, 12, 20)),
    *(b"Exif\0\0" * times + directory(struct.pack("<HH", 3, 0)) for times in (1, 2)),
    b"MM\0+\0\0\0\x08",
    b"II+\0\0\0\0\x08",
    b"XX*\0\0\0\0\0",
    b"'\"\n\\x\xff\x01a",
]


@pytest.mark.parametrize("exif", EXIF, ids=[str(index) for index in range(len(EXIF))])
def test_orientation(same_picture: Any, exif: bytes) -> None:
    """Also of broken EXIF, behind the pixels, and as the text that ImageMagick writes."""
    text = b"Raw profile type exif\0\nexif\n  12\n" + exif.hex().encode()
    for extra in [(b"eXIf", exif), (b"tEXt", text), (b"tEXt", text[:-1]), (b"tEXt", text + b" zz")]:
        same_picture(png(PIXELS, before=[extra]))
        same_picture(png(PIXELS, after=[extra]))


XMP = b"XML:com.adobe.xmp\0"


@pytest.mark.parametrize(
    "xmp",
    [
        b'tiff:Orientation="6"',
        b"<tiff:Orientation>3<",
        b'tiff:Orientation="9"',
        b'tiff:Orientation=6 tiff:Orientation="8"',
        b"tiff:Orientation>0 tiff:Orientation>8",
    ],
)
def test_orientation_in_xmp(same_picture: Any, xmp: bytes) -> None:
    for extra in [
        (b"iTXt", XMP + b"\0\0\0\0" + xmp),
        (b"iTXt", XMP + b"\1\0\0\0" + zlib.compress(xmp)),
        (b"iTXt", XMP + b"\1\1\0\0" + zlib.compress(xmp)),  # an unknown method
        (b"iTXt", XMP + b"\0\0\0" + xmp),  # a part is missing
        (b"tEXt", XMP + xmp),
    ]:
        same_picture(png(PIXELS, before=[extra]))
        same_picture(png(PIXELS, after=[extra]))


@pytest.mark.parametrize(
    "profile",
    [
        SRGB,
        bytes(16) + b"RGB " + b"x" * 300,
        bytes(16) + b"GRAY" + b"x" * 300,
        b"",
        bytes(2_000_000),
    ],
)
def test_profiles(same_picture: Any, profile: bytes) -> None:
    body = zlib.compress(profile)
    for start, rest in [
        (b"n\0\0", body),
        (b"n\0\0", body[:-9]),
        (b"n\0\1", body),
        (b"n\0\0", b"junk"),
        *((short, b"") for short in (b"n\0", b"n", b"", b"\0", b"\0\0")),
    ]:
        same_picture(png(PIXELS, before=[(b"iCCP", start + rest)]))
        same_picture(png(PIXELS, after=[(b"iCCP", start + rest)]))
    grey = samples_of(GREY, 8, 3, 4)
    same_picture(png(grey, 8, GREY, before=[(b"iCCP", b"n\0\0" + body)]))


@pytest.mark.parametrize(
    "extra",
    [
        *((name, b"a") for name in (b"gAMA", b"cHRM", b"pHYs", b"acTL", b"fcTL", b"prVt", b"IHDR")),
        *((name, b"") for name in (b"sRGB", b"IDAT", b"a-b!", b"zTXt")),
        (b"fdAT", b"aaaaaaa"),
        (b"fdAT", b"a"),
        (b"zTXt", b"a\0\3"),
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 21))),  # too large unpacked
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20))),  # just not
    ],
)
def test_broken_chunks(same_picture: Any, extra: Chunk) -> None:
    same_picture(png(PIXELS, before=[extra]))
    same_picture(png(PIXELS, after=[extra]))


@pytest.mark.parametrize(
    ("sequence", "frame"),
    [(0, (7, 6, 0, 0)), (0, (3, 2, 1, 1)), (1, (7, 6, 0, 0)), (0, (8, 6, 0, 0)), (0, (7, 6, 1, 0))],
)
def test_animations(same_picture: Any, sequence: int, frame: tuple[int, int, int, int]) -> None:
    """The first frame, where it lies, in front of black."""
    width, height, *_ = frame
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3))

    def control(number: int, box: tuple[int, ...]) -> Chunk:
        return b"fcTL", struct.pack(">IIIIIHHBB", number, *box, 1, 10, 0, 0)

    frames = b"acTL", struct.pack(">II", 2, 0)
    second = b"fdAT", struct.pack(">I", 2) + zlib.compress(bytes(7 * 22))
    before = [frames, control(sequence, frame)]
    same_picture(png(pixels, before=before, after=[control(1, (7, 6, 0, 0)), second], size=(7, 6)))
    default = png(PIXELS, before=[frames], after=[control(0, (7, 6, 0, 0)), second])
    same_picture(default)


@pytest.mark.parametrize(
    "size",
    [
        (0, 5),
        (100_000, 100_000),
        (2**31, 1),
        (2**32 - 1, 2**32 - 1),
        (178_956_971, 1),
        (13_378, 13_378),
    ],
)
def test_sizes_are_refused_before_memory_is_taken(same_picture: Any, size: tuple[int, int]) -> None:
    assert "ok" not in same_picture(png(samples_of(GREY, 8, 1, 1), 8, GREY, size=size))

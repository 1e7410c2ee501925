"""Objects cut from the photographs in scikit-image's wheel, along a drawn line.

Outlines are in the photograph's pixels, put down by hand along the object; curved ones are run
through smoothly. Nothing is downloaded.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

from a2edit.bench.heldout.cases import crop_to_alpha
from a2edit.bench.heldout.pen import smooth
from a2edit.runtime.errors import RequestError

OVERSAMPLE = 4
Outline = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Cutout:
    """An object in a photograph."""

    photograph: str
    category: str
    outline: Outline
    curved: bool = True


# fmt: off
MOTORCYCLE: Outline = (
    (92, 198), (115, 193), (138, 195), (141, 178), (136, 155), (150, 145), (165, 150), (168, 160),
    (205, 167), (245, 168), (280, 192), (320, 190), (355, 186), (400, 166), (440, 155), (468, 142),
    (464, 126), (500, 105), (515, 110), (528, 124), (560, 131), (562, 160), (553, 186), (576, 262),
    (600, 266), (630, 288), (645, 304), (632, 316), (655, 335), (675, 365), (683, 400), (677, 430),
    (656, 448), (630, 450), (595, 440), (560, 412), (540, 384), (522, 345), (505, 330), (506, 300),
    (530, 270), (505, 222), (471, 238), (479, 290), (476, 320), (460, 355), (430, 378), (380, 380),
    (345, 376), (348, 405), (334, 436), (322, 434), (322, 380), (274, 368), (255, 390), (215, 402),
    (180, 396), (145, 371), (125, 336), (121, 300), (130, 265), (150, 241), (125, 238), (112, 247),
    (100, 240), (108, 222), (92, 216),
)
CUTOUTS: dict[str, Cutout] = {
    "cat": Cutout("chelsea.png", "animals", (
        (45, 10), (110, 4), (200, 2), (300, 4), (348, 40), (362, 90), (362, 140), (345, 190),
        (318, 225), (314, 262), (282, 282), (240, 292), (180, 284), (140, 262), (105, 230),
        (70, 190), (48, 150), (38, 110), (36, 60),
    )),
    "cup": Cutout("coffee.png", "accessories", (
        (77, 200), (90, 150), (125, 110), (172, 78), (185, 58), (215, 33), (285, 18), (350, 32),
        (390, 62), (403, 68), (420, 68), (424, 78), (418, 105), (455, 145), (478, 205), (470, 265),
        (430, 325), (360, 372), (285, 387), (210, 376), (140, 330), (95, 270),
    )),
    "woman": Cutout("astronaut.png", "portraits", (
        (154, 72), (162, 52), (190, 32), (215, 20), (240, 16), (270, 24), (290, 45), (298, 70),
        (301, 88), (294, 115), (280, 133), (270, 136), (266, 150), (258, 172), (250, 187),
        (235, 189), (205, 185), (190, 178), (186, 160), (181, 140), (172, 128), (163, 112),
        (155, 95),
    )),
    "suit": Cutout("astronaut.png", "garments", (
        (112, 208), (126, 230), (150, 264), (190, 290), (240, 297), (285, 288), (305, 264),
        (308, 240), (330, 254), (345, 280), (356, 320), (360, 346), (328, 362), (300, 394),
        (282, 436), (277, 480), (240, 490), (160, 455), (120, 482), (40, 500), (24, 460), (22, 400),
        (30, 340), (45, 280), (75, 240),
    )),
    "helmet": Cutout("astronaut.png", "accessories", (
        (278, 470), (284, 424), (305, 386), (335, 360), (370, 346), (405, 346), (440, 357),
        (470, 381), (490, 415), (497, 455), (498, 508), (440, 511), (340, 511), (284, 508),
    )),
    "patch": Cutout("astronaut.png", "accessories", (
        (134, 385), (145, 359), (171, 348), (197, 359), (208, 385), (197, 411), (171, 422),
        (145, 411),
    )),
    "shuttle": Cutout("astronaut.png", "vehicles", (
        (398, 25), (406, 4), (425, 0), (436, 22), (438, 44), (446, 40), (455, 60), (456, 250),
        (462, 277), (372, 282), (372, 268), (387, 224), (355, 221), (360, 206), (380, 180),
        (380, 60), (388, 41), (396, 50),
    ), curved=False),
    "motorcycle": Cutout("motorcycle_left.png", "vehicles", MOTORCYCLE, curved=False),
    "flag": Cutout("astronaut.png", "accessories", (
        (2, 1), (58, 1), (62, 85), (48, 112), (75, 155), (98, 210), (72, 240), (50, 262), (42, 290),
        (2, 290),
    ), curved=False),
    "man": Cutout("camera.png", "portraits", (
        (160, 110), (168, 90), (185, 75), (205, 64), (230, 69), (255, 86), (269, 106), (267, 127),
        (257, 133), (252, 150), (254, 167), (243, 178), (240, 194), (225, 196), (205, 190),
        (195, 196), (180, 190), (170, 165), (162, 145),
    )),
}
# fmt: on


def cut_out(name: str) -> Image.Image:
    """An object alone on transparent ground: RGBA, cut to its own box."""
    cutout = CUTOUTS[name]
    return cut_along(photograph(cutout.photograph), cutout.outline, curved=cutout.curved)


def cut_along(picture: Image.Image, outline: Outline, *, curved: bool) -> Image.Image:
    """The inside of an outline: RGBA, cut to its box."""
    thing = picture.convert("RGB").convert("RGBA")
    thing.putalpha(stencil(picture.size, outline, curved=curved))
    return crop_to_alpha(thing)


def stencil(size: tuple[int, int], outline: Outline, *, curved: bool) -> Image.Image:
    """The inside of an outline as grey of width × height; its edge is softened by a pixel."""
    points = smooth(outline) if curved else list(outline)
    large = Image.new("L", (size[0] * OVERSAMPLE, size[1] * OVERSAMPLE), 0)
    scaled = [((x + 0.5) * OVERSAMPLE, (y + 0.5) * OVERSAMPLE) for x, y in points]
    ImageDraw.Draw(large).polygon(scaled, fill=255)
    return large.resize(size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.7))


def photograph(name: str) -> Image.Image:
    """A photograph of scikit-image's wheel, RGB; raises RequestError where it is not there."""
    spec = find_spec("skimage")
    path = Path(spec.origin if spec and spec.origin else "").parent / "data" / name
    if spec is None or not path.is_file():
        raise RequestError(
            f"the photograph {name} is scikit-image's, which is not installed as it should be: "
            'pip install -c constraints.txt -e ".[bench]", or leave photographs out with '
            "--groups drawn"
        )
    with Image.open(path) as picture:
        return picture.convert("RGB")

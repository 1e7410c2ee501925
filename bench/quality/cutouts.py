"""Objects cut from the photographs in scikit-image's and scikit-learn's wheels, along a drawn line.

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
    "dahlia": Cutout("flower.jpg", "plants", (
        (170, 215), (178, 172), (198, 135), (225, 112), (260, 95), (315, 85), (370, 98), (405, 118),
        (428, 150), (440, 190), (445, 215), (438, 260), (425, 290), (405, 325), (380, 344),
        (345, 356), (305, 358), (260, 349), (225, 331), (200, 310), (180, 270), (172, 240),
    )),
    "pagoda": Cutout("china.jpg", "architecture", (
        (197, 30), (215, 30), (218, 60), (235, 76), (262, 96), (318, 118), (318, 128), (295, 139),
        (295, 160), (329, 172), (327, 181), (319, 190), (328, 228), (327, 240), (351, 253),
        (349, 260), (340, 272), (340, 302), (350, 308), (345, 320), (371, 332), (332, 368),
        (300, 388), (240, 389), (205, 370), (160, 346), (150, 331), (120, 337), (80, 338),
        (75, 322), (82, 300), (85, 282), (62, 272), (70, 256), (95, 245), (95, 232), (104, 190),
        (84, 180), (90, 168), (120, 160), (122, 140), (95, 128), (98, 108), (125, 100), (165, 80),
        (192, 62),
    ), curved=False),
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
    """A photograph of either wheel, RGB; raises RequestError where neither has it."""
    for package, folder in (("skimage", "data"), ("sklearn", "datasets/images")):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            continue
        path = Path(spec.origin).parent / folder / name
        if path.is_file():
            with Image.open(path) as picture:
                return picture.convert("RGB")
    raise RequestError(
        f"the photograph {name} is in neither scikit-image nor scikit-learn as installed here: "
        'pip install -c constraints.txt -e ".[bench]", or leave photographs out with --groups drawn'
    )

"""Nine backgrounds drawn with the pen, each a picture of its own size without any object in it."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from a2edit.bench.heldout.pen import Pen


def beach() -> Image.Image:
    pen = Pen(640)
    pen.box((0, 0), (1, 0.4), pen.gradient((120, 190, 236), (250, 236, 214)))
    pen.ellipse((0.82, 0.1), (0.05, 0.05), (255, 246, 196))
    pen.box((0, 0.27), (1, 0.45), pen.gradient((20, 110, 150), (90, 200, 206)))
    for row, y in enumerate((0.3, 0.33, 0.37, 0.41)):
        for step in range(5):
            x = 0.2 * step + 0.07 * row
            pen.line([(x, y), (x + 0.06 + 0.01 * row, y)], 0.004, (190, 232, 236))
    pen.blob(
        [(-0.1, 0.45), (0.3, 0.42), (0.7, 0.45), (1.1, 0.41), (1.1, 0.9), (-0.1, 0.9)],
        pen.gradient((238, 212, 158), (214, 174, 110)),
    )
    for x, y, colour in ((0.12, 0.58, (236, 120, 110)), (0.9, 0.6, (250, 246, 236))):
        pen.ellipse((x, y), (0.02, 0.013), colour)
    return pen.scenery(0.66, seed=11)


def room() -> Image.Image:
    pen = Pen(520)
    pen.box((0, 0), (1, 0.68), pen.stripes((204, 216, 202), (188, 204, 190), 0.08))
    pen.box((0, 0.66), (1, 1), pen.stripes((164, 120, 84), (152, 108, 74), 0.09, 90))
    pen.box((0, 0.65), (1, 0.68), (238, 232, 220))
    pen.box((0.08, 0.1), (0.4, 0.5), (242, 238, 228))
    pen.box((0.1, 0.12), (0.38, 0.48), pen.gradient((150, 204, 244), (222, 240, 246)))
    pen.line([(0.24, 0.1), (0.24, 0.5)], 0.014, (242, 238, 228))
    pen.line([(0.08, 0.3), (0.4, 0.3)], 0.014, (242, 238, 228))
    pen.box((0.66, 0.14), (0.9, 0.36), (120, 84, 54))
    pen.box((0.68, 0.16), (0.88, 0.34), pen.gradient((244, 210, 150), (216, 120, 96), 30))
    pen.ellipse((0.55, 0.88), (0.4, 0.09), (150, 70, 80))
    pen.ellipse((0.55, 0.88), (0.33, 0.065), (206, 150, 130))
    return pen.scenery(1.0, seed=12)


def street() -> Image.Image:
    pen = Pen(600)
    pen.box((0, 0), (1, 0.5), pen.gradient((186, 204, 222), (240, 232, 220)))
    fronts = ((226, 178, 120), (178, 196, 176), (214, 140, 120), (200, 186, 206), (236, 214, 160))
    for index, front in enumerate(fronts):
        left, top = 0.2 * index, 0.1 + 0.05 * ((index * 2) % 3)
        pen.box((left, top), (left + 0.2, 0.52), front)
        pen.polygon(
            [(left - 0.01, top), (left + 0.1, top - 0.09), (left + 0.21, top)], (130, 70, 60)
        )
        for row in range(2):
            for column in range(2):
                x, y = left + 0.035 + 0.08 * column, top + 0.05 + 0.12 * row
                pen.box((x, y), (x + 0.05, y + 0.075), (94, 116, 134), 0.006)
    pen.box((0, 0.5), (1, 0.56), (186, 182, 176))
    pen.box((0, 0.56), (1, 0.8), pen.dots((112, 110, 114), (128, 126, 130), 0.03, 0.4))
    for y in (0.64, 0.69):
        pen.line([(0, y), (1, y)], 0.007, (74, 74, 80))
    return pen.scenery(0.73, seed=13)


def meadow() -> Image.Image:
    pen = Pen(640)
    pen.box((0, 0), (1, 0.5), pen.gradient((96, 168, 230), (226, 240, 246)))
    for x, y, size in ((0.2, 0.12, 0.07), (0.68, 0.08, 0.09), (0.9, 0.18, 0.05)):
        for shift in (-0.8, 0, 0.8):
            radii = (size * 0.8, size * (0.5 - 0.15 * abs(shift)))
            pen.ellipse((x + shift * size, y), radii, (250, 250, 250))
    hill = [(-0.1, 0.4), (0.25, 0.28), (0.6, 0.38), (1.1, 0.3), (1.1, 0.9), (-0.1, 0.9)]
    pen.blob(hill, pen.gradient((120, 180, 90), (86, 150, 70)))
    near = [(-0.1, 0.46), (0.4, 0.42), (0.8, 0.46), (1.1, 0.42), (1.1, 1), (-0.1, 1)]
    pen.blob(near, pen.gradient((150, 196, 90), (90, 146, 56)))
    flowers = np.random.default_rng(3).uniform((0, 0.5), (1, 0.62), (60, 2))
    for index, (x, y) in enumerate(flowers):
        colour = ((250, 250, 240), (246, 206, 60), (226, 90, 90))[index % 3]
        pen.ellipse((float(x), float(y)), (0.006, 0.006), colour)
    return pen.scenery(0.62, seed=14)


def reef() -> Image.Image:
    pen = Pen(540)
    pen.box((0, 0), (1, 1), pen.gradient((60, 186, 210), (8, 58, 112)))
    for x in (0.1, 0.3, 0.48, 0.75):
        ray = [(x, 0), (x + 0.07, 0), (x + 0.22, 0.7), (x + 0.06, 0.7)]
        pen.polygon(ray, pen.gradient((110, 208, 222), (24, 90, 142)))
    sand = [(-0.1, 0.7), (0.3, 0.66), (0.7, 0.71), (1.1, 0.65), (1.1, 1), (-0.1, 1)]
    pen.blob(sand, pen.gradient((206, 190, 140), (120, 120, 108)))
    for x, tall, colour in (
        (0.08, 0.34, (30, 130, 90)),
        (0.15, 0.24, (44, 150, 84)),
        (0.92, 0.38, (34, 120, 100)),
        (0.85, 0.22, (60, 150, 96)),
    ):
        weed = [(x + 0.02 * math.sin(6 * t), 0.74 - tall * t) for t in np.linspace(0, 1, 9)]
        pen.line(weed, 0.025, colour)
    for x, y, colour in ((0.28, 0.7, (206, 84, 112)), (0.72, 0.72, (226, 130, 70))):
        for turn in (-40, -12, 16, 44):
            tip = (x + 0.07 * math.sin(math.radians(turn)), y - 0.1)
            pen.line([(x, y), tip], 0.022, colour)
    return pen.scenery(0.8, seed=15)


def forest() -> Image.Image:
    pen = Pen(460)
    pen.box((0, 0), (1, 1), pen.gradient((26, 34, 74), (70, 92, 110)))
    pen.ellipse((0.22, 0.16), (0.09, 0.09), (240, 236, 206))
    for x, y in np.random.default_rng(6).uniform((0, 0), (1, 0.5), (40, 2)):
        pen.ellipse((float(x), float(y)), (0.004, 0.004), (226, 230, 240))
    for x, width, colour in ((0.05, 0.1, (30, 40, 48)), (0.36, 0.06, (44, 58, 66))):
        pen.polygon([(x, 0), (x + width, 0), (x + width * 1.2, 1), (x - 0.03, 1)], colour)
    pen.polygon([(0.84, 0), (0.97, 0), (1.02, 1), (0.78, 1)], (54, 42, 38))
    pen.line([(0.9, 0.74), (0.6, 0.78), (0.28, 0.75)], 0.045, (66, 50, 42))
    for x in (0.32, 0.42, 0.72):
        pen.ellipse((x, 0.72), (0.045, 0.018), (50, 96, 72), -35)
    pen.box((0, 0.95), (1, 1), (22, 40, 36))
    return pen.scenery(1.0, seed=16)


def wardrobe() -> Image.Image:
    pen = Pen(560)
    pen.box((0, 0), (1, 1), pen.gradient((176, 132, 96), (140, 98, 68), 0))
    for x in (0.25, 0.5, 0.75):
        pen.line([(x, 0), (x, 1)], 0.006, (116, 80, 54))
    pen.box((0, 0.05), (1, 0.1), (94, 64, 44))
    for x in (0.12, 0.5, 0.88):
        pen.line([(x, 0.09), (x, 0.14), (x + 0.02, 0.15)], 0.014, (60, 60, 66))
    pen.box((0, 0.76), (1, 0.83), (104, 72, 50))
    for x, colour in ((0.12, (60, 60, 72)), (0.24, (60, 60, 72)), (0.8, (150, 60, 54))):
        pen.blob([(x - 0.05, 0.75), (x - 0.04, 0.7), (x + 0.01, 0.7), (x + 0.06, 0.75)], colour)
    return pen.scenery(0.83, seed=17)


def windowsill() -> Image.Image:
    pen = Pen(500)
    pen.box((0, 0), (1, 1), (232, 226, 214))
    pen.box((0.06, 0.04), (0.94, 0.78), pen.gradient((170, 214, 240), (214, 232, 200)))
    pen.blob([(0, 0.8), (0.2, 0.5), (0.5, 0.6), (0.8, 0.46), (1.0, 0.8)], (140, 184, 130))
    pen.box((0.94, 0), (1, 1), (232, 226, 214))
    pen.box((0, 0), (0.06, 1), (232, 226, 214))
    pen.line([(0.5, 0.04), (0.5, 0.78)], 0.03, (244, 240, 232))
    for side in (0, 1):
        curtain = [(0, 0), (0.2, 0), (0.12, 0.4), (0.05, 0.78), (0, 0.78)]
        cloth = pen.stripes((226, 120, 108), (236, 146, 130), 0.05)
        pen.polygon([(side + (1 - 2 * side) * x, y) for x, y in curtain], cloth)
    pen.box((0, 0.78), (1, 0.86), (250, 246, 240))
    pen.box((0, 0.86), (1, 1), (214, 206, 192))
    return pen.scenery(0.94, seed=18)


def cliff() -> Image.Image:
    pen = Pen(440)
    pen.box((0, 0), (1, 1), pen.gradient((250, 190, 140), (120, 150, 200), 270))
    pen.box((0, 0.76), (1, 1), pen.gradient((70, 110, 150), (30, 60, 100)))
    for step, y in enumerate((0.79, 0.83, 0.88, 0.93)):
        pen.line([(0.05 + 0.04 * step, y), (0.2 + 0.04 * step, y)], 0.005, (190, 206, 220))
    rock = [(0.25, 1.1), (0.34, 0.84), (0.6, 0.8), (1.1, 0.78), (1.1, 1.1)]
    pen.blob(rock, pen.gradient((126, 116, 106), (70, 62, 62)))
    pen.blob([(0.36, 0.83), (0.6, 0.785), (1.1, 0.76), (1.1, 0.82), (0.6, 0.82)], (110, 146, 84))
    for x, y in ((0.16, 0.2), (0.28, 0.26), (0.82, 0.16)):
        gull = [(x - 0.04, y - 0.015), (x, y), (x + 0.04, y - 0.015)]
        pen.line(gull, 0.008, (250, 250, 250))
    return pen.scenery(1.0, seed=19)


SCENES: dict[str, Callable[[], Image.Image]] = {
    "beach": beach,
    "room": room,
    "street": street,
    "meadow": meadow,
    "reef": reef,
    "forest": forest,
    "wardrobe": wardrobe,
    "windowsill": windowsill,
    "cliff": cliff,
}

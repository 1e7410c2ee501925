"""Sixteen objects, two for each of UniEdit's eight categories, drawn with the pen.

Each function returns an RGBA picture with a transparent background.
"""

import itertools
import math
from collections.abc import Callable

from PIL import Image

from a2edit.bench.heldout.pen import Pen

INK = (38, 34, 44)
WHITE = (248, 246, 240)


def scarecrow() -> Image.Image:
    """Portraits: a round face under a patched hat."""
    pen = Pen()
    pen.ellipse((0.5, 0.6), (0.27, 0.31), pen.gradient((246, 211, 160), (214, 158, 104)))
    for side in (-1, 1):
        pen.ellipse((0.5 + side * 0.11, 0.56), (0.04, 0.055), INK)
        pen.ellipse((0.5 + side * 0.17, 0.68), (0.055, 0.04), (232, 120, 104))
    pen.polygon([(0.5, 0.6), (0.46, 0.7), (0.54, 0.7)], (222, 96, 40))
    pen.line([(0.38, 0.76), (0.45, 0.8), (0.55, 0.8), (0.62, 0.76)], 0.022, INK)
    pen.box((0.12, 0.36), (0.88, 0.43), (120, 78, 44), 0.035)
    pen.polygon([(0.28, 0.38), (0.36, 0.08), (0.66, 0.05), (0.74, 0.38)], (150, 98, 52))
    pen.box((0.28, 0.3), (0.73, 0.37), (176, 44, 52))
    pen.box((0.42, 0.14), (0.54, 0.25), pen.checks((236, 200, 70), (70, 110, 170), 0.06))
    return pen.finish(seed=1)


def diver() -> Image.Image:
    """Portraits: a brass diving helmet with a face behind the glass."""
    pen = Pen()
    brass = pen.gradient((238, 190, 92), (150, 96, 36), 50)
    pen.box((0.2, 0.76), (0.8, 0.93), brass, 0.05)
    pen.ellipse((0.5, 0.47), (0.36, 0.38), brass)
    for side in (-1, 1):
        pen.ellipse((0.5 + side * 0.34, 0.5), (0.07, 0.12), (118, 72, 30))
    pen.ellipse((0.5, 0.48), (0.24, 0.24), (104, 62, 26))
    pen.ellipse((0.5, 0.48), (0.2, 0.2), pen.gradient((168, 222, 232), (70, 140, 168)))
    pen.ellipse((0.5, 0.51), (0.13, 0.15), (226, 170, 132))
    for side in (-1, 1):
        pen.ellipse((0.5 + side * 0.055, 0.48), (0.018, 0.024), INK)
    pen.line([(0.45, 0.58), (0.5, 0.6), (0.55, 0.58)], 0.014, (150, 60, 60))
    for step in range(7):
        pen.ellipse((0.25 + step / 12, 0.845), (0.018, 0.018), (96, 58, 24))
    return pen.finish(seed=2)


def raincoat() -> Image.Image:
    """Garments: a yellow coat with a blue lining and dark toggles."""
    pen = Pen()
    cloth = pen.gradient((252, 208, 54), (226, 160, 24), 70)
    for side in (-1, 1):
        sleeve = [(0.14, 0.2), (0.26, 0.16), (0.4, 0.62), (0.28, 0.68)]
        pen.polygon([(0.5 + side * x, y) for x, y in sleeve], cloth)
    pen.polygon(
        [(0.32, 0.14), (0.68, 0.14), (0.74, 0.4), (0.8, 0.93), (0.2, 0.93), (0.26, 0.4)], cloth
    )
    pen.polygon([(0.38, 0.14), (0.62, 0.14), (0.5, 0.34)], (48, 84, 150))
    pen.line([(0.5, 0.33), (0.5, 0.92)], 0.012, (168, 110, 14))
    for y in (0.42, 0.55, 0.68, 0.81):
        pen.line([(0.46, y), (0.54, y)], 0.026, (92, 56, 34))
    for x in (0.28, 0.58):
        pen.box((x, 0.64), (x + 0.14, 0.78), (206, 142, 18), 0.02)
    return pen.finish(seed=3)


def poncho() -> Image.Image:
    """Garments: a woven poncho in red and teal bands, with a fringe."""
    pen = Pen()
    for step in range(15):
        x = 0.14 + step * 0.0515
        pen.line([(x, 0.78), (x, 0.9)], 0.016, (244, 226, 190))
    pen.polygon(
        [(0.4, 0.1), (0.6, 0.1), (0.93, 0.8), (0.07, 0.8)],
        pen.stripes((196, 44, 58), (24, 140, 146), 0.2, 90),
    )
    zigzag = [(0.12 + step * 0.0422, 0.6 + 0.05 * (step % 2)) for step in range(19)]
    pen.line(zigzag, 0.022, (246, 214, 120))
    pen.ellipse((0.5, 0.11), (0.1, 0.055), (70, 28, 44))
    return pen.finish(seed=4)


def fish() -> Image.Image:
    """Animals: a striped reef fish facing left."""
    pen = Pen()
    pen.polygon([(0.7, 0.5), (0.95, 0.3), (0.9, 0.5), (0.95, 0.72)], (240, 160, 40))
    pen.blob([(0.35, 0.3), (0.55, 0.14), (0.7, 0.32), (0.5, 0.36)], (244, 176, 48))
    pen.blob([(0.4, 0.7), (0.55, 0.86), (0.66, 0.7), (0.5, 0.64)], (244, 176, 48))
    pen.blob(
        [(0.06, 0.5), (0.22, 0.32), (0.5, 0.25), (0.76, 0.48), (0.5, 0.76), (0.22, 0.7)],
        pen.stripes((246, 108, 36), (250, 244, 232), 0.24, 8),
    )
    pen.blob([(0.05, 0.51), (0.17, 0.37), (0.26, 0.5), (0.17, 0.64)], (246, 108, 36))
    pen.ellipse((0.175, 0.47), (0.042, 0.042), WHITE)
    pen.ellipse((0.17, 0.47), (0.023, 0.023), INK)
    pen.blob([(0.36, 0.52), (0.5, 0.48), (0.48, 0.62)], (222, 84, 20))
    return pen.finish(seed=5)


def owl() -> Image.Image:
    """Animals: a brown owl with yellow eyes."""
    pen = Pen()
    for side in (-1, 1):
        pen.polygon(
            [(0.5 + side * x, y) for x, y in ((0.1, 0.2), (0.28, 0.06), (0.26, 0.3))], (104, 70, 46)
        )
    pen.blob(
        [
            (0.5, 0.12),
            (0.75, 0.26),
            (0.78, 0.62),
            (0.62, 0.92),
            (0.38, 0.92),
            (0.22, 0.62),
            (0.25, 0.26),
        ],
        pen.gradient((146, 102, 66), (104, 68, 44)),
    )
    pen.ellipse((0.5, 0.68), (0.19, 0.22), pen.dots((224, 196, 150), (140, 98, 62), 0.075, 0.28))
    for side in (-1, 1):
        pen.ellipse((0.5 + side * 0.12, 0.34), (0.125, 0.125), (232, 206, 164))
        pen.ellipse((0.5 + side * 0.115, 0.345), (0.08, 0.08), (250, 190, 30))
        pen.ellipse((0.5 + side * 0.11, 0.345), (0.045, 0.045), INK)
        pen.ellipse((0.5 + side * 0.27, 0.6), (0.06, 0.22), (88, 58, 38), side * 8)
        pen.box(
            (0.5 + side * 0.09 - 0.05, 0.89), (0.5 + side * 0.09 + 0.05, 0.95), (232, 150, 40), 0.02
        )
    pen.polygon([(0.46, 0.4), (0.54, 0.4), (0.5, 0.5)], (232, 150, 40))
    return pen.finish(seed=6)


def cactus() -> Image.Image:
    """Plants: a cactus with a pink flower in a clay pot."""
    pen = Pen()
    skin = pen.stripes((58, 142, 78), (84, 172, 96), 0.06)
    pen.line([(0.5, 0.66), (0.76, 0.6), (0.76, 0.38)], 0.12, skin)
    pen.line([(0.5, 0.56), (0.25, 0.5), (0.25, 0.28)], 0.11, skin)
    pen.line([(0.5, 0.7), (0.5, 0.22)], 0.21, skin)
    for turn in range(6):
        angle = math.radians(60 * turn)
        petal = (0.5 + 0.055 * math.cos(angle), 0.12 + 0.055 * math.sin(angle))
        pen.ellipse(petal, (0.045, 0.045), (236, 92, 150))
    pen.ellipse((0.5, 0.12), (0.035, 0.035), (252, 218, 80))
    pen.polygon([(0.28, 0.74), (0.72, 0.74), (0.65, 0.96), (0.35, 0.96)], (196, 104, 64))
    pen.box((0.25, 0.69), (0.75, 0.77), (216, 124, 80), 0.02)
    return pen.finish(seed=7)


def tulips() -> Image.Image:
    """Plants: three tulips in a blue glazed jug."""
    pen = Pen()
    heads = ((0.3, 0.26, (228, 48, 66)), (0.52, 0.16, (250, 190, 40)), (0.72, 0.28, (190, 70, 170)))
    for x, y, _ in heads:
        pen.line([(0.5, 0.7), (0.5 + (x - 0.5) * 0.5, 0.5), (x, y)], 0.025, (70, 140, 62))
    for side in (-1, 1):
        leaf = [(0.02, 0.64), (0.16, 0.36), (0.3, 0.3), (0.2, 0.52)]
        pen.blob([(0.5 + side * u, v) for u, v in leaf], (92, 164, 74))
    for x, y, colour in heads:
        cup = [
            (-0.09, -0.1),
            (-0.045, -0.03),
            (0, -0.12),
            (0.045, -0.03),
            (0.09, -0.1),
            (0.08, 0.05),
            (0, 0.1),
            (-0.08, 0.05),
        ]
        pen.polygon([(x + u, y + v) for u, v in cup], colour)
    pen.line([(0.68, 0.66), (0.82, 0.7), (0.8, 0.84), (0.68, 0.88)], 0.035, (36, 76, 150))
    pen.blob(
        [(0.38, 0.56), (0.62, 0.56), (0.72, 0.78), (0.62, 0.97), (0.38, 0.97), (0.28, 0.78)],
        pen.gradient((84, 140, 214), (30, 62, 132)),
    )
    pen.box((0.3, 0.74), (0.7, 0.8), WHITE)
    return pen.finish(seed=8)


def umbrella() -> Image.Image:
    """Accessories: an open umbrella, its panels red and white."""
    pen = Pen()
    pen.line(
        [(0.5, 0.3), (0.5, 0.84), (0.53, 0.91), (0.6, 0.91), (0.62, 0.85)], 0.028, (96, 60, 36)
    )
    angles = [step * math.pi / 24 for step in range(13)]
    rim = [0.06, 0.235, 0.41, 0.59, 0.765, 0.94]
    ribs = [
        [(0.5 + (x - 0.5) * math.sin(a), 0.56 - 0.43 * math.cos(a)) for a in angles] for x in rim
    ]
    for panel, (left, right) in enumerate(itertools.pairwise(ribs)):
        red = panel % 2 == 0
        pen.polygon([*left, *reversed(right)], (214, 42, 56) if red else WHITE)
        middle = (rim[panel] + rim[panel + 1]) / 2
        pen.ellipse((middle, 0.56), (0.088, 0.025), (150, 22, 38) if red else (206, 200, 196))
    pen.line([(0.5, 0.14), (0.5, 0.07)], 0.02, INK)
    return pen.finish(seed=9)


def satchel() -> Image.Image:
    """Accessories: a green leather satchel with brass buckles."""
    pen = Pen()
    pen.line([(0.24, 0.36), (0.28, 0.14), (0.72, 0.14), (0.76, 0.36)], 0.04, (74, 46, 30))
    pen.box((0.12, 0.3), (0.88, 0.9), pen.gradient((40, 116, 92), (20, 72, 60)), 0.06)
    pen.polygon(
        [(0.1, 0.3), (0.9, 0.3), (0.86, 0.6), (0.7, 0.68), (0.3, 0.68), (0.14, 0.6)], (52, 140, 108)
    )
    for x in (0.26, 0.66):
        pen.box((x, 0.3), (x + 0.08, 0.78), (128, 78, 44), 0.01)
        pen.box((x - 0.015, 0.6), (x + 0.095, 0.7), (238, 196, 84), 0.015)
    return pen.finish(seed=10)


def chair() -> Image.Image:
    """Furniture: a wooden chair with a blue cushion."""
    pen = Pen()
    wood, shade = (178, 116, 62), (130, 80, 42)
    for x in (0.26, 0.66):
        pen.box((x, 0.08), (x + 0.08, 0.6), wood, 0.02)
    for y in (0.14, 0.28, 0.42):
        pen.box((0.28, y), (0.72, y + 0.075), shade, 0.02)
    for x in (0.2, 0.72):
        pen.box((x, 0.6), (x + 0.08, 0.95), wood, 0.015)
    for x in (0.33, 0.6):
        pen.box((x, 0.6), (x + 0.06, 0.86), shade, 0.015)
    pen.polygon([(0.26, 0.54), (0.74, 0.54), (0.84, 0.68), (0.16, 0.68)], wood)
    pen.blob([(0.29, 0.51), (0.71, 0.51), (0.8, 0.61), (0.5, 0.65), (0.2, 0.61)], (52, 104, 190))
    return pen.finish(seed=11)


def lamp() -> Image.Image:
    """Furniture: a table lamp, dotted shade on a turned foot."""
    pen = Pen()
    pen.ellipse((0.5, 0.9), (0.22, 0.05), (72, 54, 92))
    pen.blob(
        [(0.46, 0.5), (0.54, 0.5), (0.62, 0.66), (0.55, 0.88), (0.45, 0.88), (0.38, 0.66)],
        pen.gradient((132, 96, 168), (78, 52, 112), 0),
    )
    pen.polygon(
        [(0.33, 0.1), (0.67, 0.1), (0.86, 0.52), (0.14, 0.52)],
        pen.dots((252, 232, 168), (236, 134, 60), 0.12, 0.27),
    )
    pen.box((0.13, 0.5), (0.87, 0.54), (216, 104, 40))
    return pen.finish(seed=12)


def sailboat() -> Image.Image:
    """Vehicles: a small boat, one sail striped."""
    pen = Pen()
    pen.line([(0.5, 0.06), (0.5, 0.76)], 0.025, (110, 74, 46))
    pen.polygon(
        [(0.53, 0.1), (0.9, 0.66), (0.53, 0.66)],
        pen.stripes((250, 246, 236), (44, 96, 176), 0.16, 90),
    )
    pen.polygon([(0.47, 0.16), (0.47, 0.66), (0.14, 0.66)], (240, 176, 48))
    pen.polygon(
        [(0.06, 0.72), (0.94, 0.72), (0.8, 0.92), (0.2, 0.92)],
        pen.gradient((190, 52, 44), (122, 26, 30)),
    )
    pen.box((0.06, 0.71), (0.94, 0.755), WHITE)
    return pen.finish(seed=13)


def tram() -> Image.Image:
    """Vehicles: a green and cream tram from the side."""
    pen = Pen()
    pen.line([(0.42, 0.24), (0.56, 0.1), (0.66, 0.1)], 0.016, INK)
    pen.box((0.05, 0.24), (0.95, 0.82), (246, 234, 198), 0.05)
    pen.box((0.05, 0.56), (0.95, 0.82), (34, 120, 84), 0.03)
    pen.box((0.03, 0.22), (0.97, 0.29), (70, 78, 84), 0.03)
    for x in (0.1, 0.27, 0.57, 0.74):
        pen.box((x, 0.33), (x + 0.14, 0.53), pen.gradient((150, 204, 226), (76, 132, 164)), 0.015)
    pen.box((0.43, 0.33), (0.54, 0.8), (204, 160, 60), 0.01)
    for x in (0.24, 0.74):
        pen.ellipse((x, 0.84), (0.085, 0.085), (54, 54, 60))
        pen.ellipse((x, 0.84), (0.04, 0.04), (160, 162, 168))
    pen.ellipse((0.09, 0.66), (0.025, 0.035), (255, 226, 120))
    return pen.finish(seed=14)


def lighthouse() -> Image.Image:
    """Architecture: a banded lighthouse on a rock."""
    pen = Pen()
    pen.blob(
        [(0.16, 0.96), (0.24, 0.84), (0.5, 0.8), (0.78, 0.85), (0.86, 0.96), (0.5, 0.98)],
        (112, 104, 102),
    )
    pen.polygon(
        [(0.4, 0.28), (0.6, 0.28), (0.7, 0.88), (0.3, 0.88)],
        pen.stripes((206, 48, 44), (250, 246, 240), 0.24, 90),
    )
    pen.box((0.34, 0.25), (0.66, 0.3), INK, 0.01)
    pen.box((0.41, 0.14), (0.59, 0.26), (252, 222, 110), 0.01)
    pen.polygon([(0.37, 0.15), (0.63, 0.15), (0.5, 0.04)], (150, 34, 36))
    pen.box((0.46, 0.72), (0.54, 0.87), (74, 50, 40), 0.03)
    return pen.finish(seed=15)


def windmill() -> Image.Image:
    """Architecture: a stone mill with four sails."""
    pen = Pen()
    pen.polygon(
        [(0.38, 0.36), (0.62, 0.36), (0.74, 0.95), (0.26, 0.95)],
        pen.gradient((232, 222, 204), (178, 162, 140), 0),
    )
    pen.blob([(0.36, 0.37), (0.42, 0.24), (0.58, 0.24), (0.64, 0.37)], (88, 62, 110))
    pen.box((0.45, 0.78), (0.55, 0.95), (96, 60, 38), 0.03)
    for x, y in ((0.42, 0.5), (0.54, 0.62)):
        pen.box((x, y), (x + 0.06, y + 0.08), (70, 110, 140), 0.01)
    for quarter in range(4):
        angle = math.radians(90 * quarter + 28)
        cos, sin = math.cos(angle), math.sin(angle)
        blade = [(0.06, 0.0), (0.38, 0.0), (0.38, 0.1), (0.1, 0.1)]
        pen.polygon(
            [(0.5 + u * cos - v * sin, 0.36 + u * sin + v * cos) for u, v in blade], (214, 152, 88)
        )
        pen.line([(0.5, 0.36), (0.5 + 0.39 * cos, 0.36 + 0.39 * sin)], 0.018, (92, 58, 36))
    pen.ellipse((0.5, 0.36), (0.035, 0.035), INK)
    return pen.finish(seed=16)


# kind -> (UniEdit category, drawing)
OBJECTS: dict[str, tuple[str, Callable[[], Image.Image]]] = {
    "scarecrow": ("portraits", scarecrow),
    "diver": ("portraits", diver),
    "raincoat": ("garments", raincoat),
    "poncho": ("garments", poncho),
    "fish": ("animals", fish),
    "owl": ("animals", owl),
    "cactus": ("plants", cactus),
    "tulips": ("plants", tulips),
    "umbrella": ("accessories", umbrella),
    "satchel": ("accessories", satchel),
    "chair": ("furniture", chair),
    "lamp": ("furniture", lamp),
    "sailboat": ("vehicles", sailboat),
    "tram": ("vehicles", tram),
    "lighthouse": ("architecture", lighthouse),
    "windmill": ("architecture", windmill),
}

"""The drawn subjects: sixteen objects that training never draws, each in three drawn scenes."""

from functools import cache

import numpy as np
from PIL import Image

from a2edit.bench.heldout.cases import DRAWN
from a2edit.bench.heldout.objects import OBJECTS
from a2edit.bench.heldout.scenes import SCENES
from a2edit.bench.quality.pose import RANGES, posed, put
from a2edit.bench.quality.subject import Subject

GROUP = "drawn"

# object, scene, centre (x, y) and height in shares of the scene: the held-out cases' own places,
# and two more of every object
LAYOUTS: tuple[tuple[str, str, float, float, float], ...] = (
    *((case.thing, case.scene, case.x, case.y, case.height) for case in DRAWN),
    ("diver", "beach", 0.3, 0.66, 0.48),
    ("raincoat", "room", 0.72, 0.52, 0.46),
    ("owl", "meadow", 0.7, 0.5, 0.5),
    ("tulips", "room", 0.55, 0.7, 0.44),
    ("umbrella", "street", 0.7, 0.6, 0.52),
    ("chair", "wardrobe", 0.36, 0.6, 0.46),
    ("tram", "meadow", 0.6, 0.66, 0.44),
    ("windmill", "cliff", 0.74, 0.52, 0.5),
    ("lighthouse", "beach", 0.22, 0.5, 0.56),
    ("fish", "windowsill", 0.4, 0.5, 0.34),
    ("scarecrow", "wardrobe", 0.62, 0.42, 0.44),
    ("sailboat", "reef", 0.5, 0.42, 0.46),
    ("poncho", "room", 0.5, 0.5, 0.44),
    ("cactus", "street", 0.3, 0.66, 0.48),
    ("lamp", "windowsill", 0.32, 0.62, 0.44),
    ("satchel", "room", 0.34, 0.7, 0.36),
    ("diver", "room", 0.3, 0.72, 0.4),
    ("raincoat", "street", 0.25, 0.62, 0.5),
    ("owl", "windowsill", 0.7, 0.6, 0.46),
    ("tulips", "cliff", 0.7, 0.6, 0.44),
    ("umbrella", "meadow", 0.3, 0.56, 0.54),
    ("chair", "beach", 0.68, 0.66, 0.48),
    ("tram", "beach", 0.4, 0.7, 0.42),
    ("windmill", "beach", 0.7, 0.48, 0.56),
    ("lighthouse", "meadow", 0.75, 0.46, 0.58),
    ("fish", "cliff", 0.3, 0.7, 0.32),
    ("scarecrow", "forest", 0.55, 0.55, 0.46),
    ("sailboat", "cliff", 0.26, 0.7, 0.4),
    ("poncho", "beach", 0.5, 0.62, 0.5),
    ("cactus", "beach", 0.74, 0.62, 0.54),
    ("lamp", "wardrobe", 0.3, 0.44, 0.42),
    ("satchel", "forest", 0.55, 0.58, 0.36),
)


def drawn_subjects(layouts: int = len(RANGES)) -> list[Subject]:
    """The sixteen objects in `layouts` scenes each, one to three.

    With one scene each, poses and places still take turns over the objects.
    """
    count = len(OBJECTS)
    return [
        _subject((number + turn) % len(RANGES) * count + number)
        for turn in range(layouts)
        for number in range(count)
    ]


@cache
def drawn_scene(name: str) -> Image.Image:
    return SCENES[name]()


@cache
def drawn_thing(name: str) -> Image.Image:
    return OBJECTS[name][1]()


def _subject(number: int) -> Subject:
    name, place, x, y, height = LAYOUTS[number]
    scene, thing = drawn_scene(place), drawn_thing(name)
    seed = 1000 + number
    pose = RANGES[number // len(OBJECTS)].draw(np.random.default_rng(seed))
    truth, shape = put(scene, posed(thing, pose), (x, y), height)
    return Subject(
        name=f"{name} in {place}",
        thing=name,
        group=GROUP,
        category=OBJECTS[name][0],
        scene=scene,
        truth=truth,
        reference=thing if seed % 2 else on_white(thing),
        reference_mask=None,
        shape=shape,
        prompt=prompt_of(name),
        masks_seed=seed,
    )


def prompt_of(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def on_white(thing: Image.Image) -> Image.Image:
    """An RGBA object as a picture without transparency."""
    ground = Image.new("RGB", thing.size, (255, 255, 255))
    ground.paste(thing, (0, 0), thing)
    return ground

"""Photographs as scenes and as references: real texture and light, which training never drew."""

import numpy as np

from a2edit.bench.heldout.objects import OBJECTS
from a2edit.bench.quality.cutouts import CUTOUTS, cut_along, cut_out, photograph, stencil
from a2edit.bench.quality.drawn import drawn_scene, drawn_thing, on_white, prompt_of
from a2edit.bench.quality.pose import RANGES, posed, put
from a2edit.bench.quality.subject import Subject

GROUP = "photographs"
PAIR = "motorcycle again"

# object, scene, centre (x, y) and height; scenes with a dot are photographs, others are drawn
LAYOUTS: tuple[tuple[str, str, float, float, float], ...] = (
    ("cat", "coffee.png", 0.5, 0.5, 0.6),
    ("cup", "motorcycle_left.png", 0.52, 0.62, 0.42),
    ("woman", "rocket.jpg", 0.3, 0.46, 0.5),
    ("suit", "wardrobe", 0.45, 0.46, 0.5),
    ("helmet", "coffee.png", 0.48, 0.48, 0.6),
    ("patch", "chelsea.png", 0.55, 0.45, 0.44),
    ("shuttle", "hubble_deep_field.jpg", 0.5, 0.5, 0.55),
    ("motorcycle", "street", 0.5, 0.72, 0.42),
    ("flag", "camera.png", 0.74, 0.36, 0.5),
    ("man", "astronaut.png", 0.82, 0.3, 0.42),
    ("cactus", "astronaut.png", 0.8, 0.32, 0.5),
    ("chair", "motorcycle_left.png", 0.5, 0.6, 0.55),
    ("sailboat", "coffee.png", 0.5, 0.42, 0.66),
    ("fish", "chelsea.png", 0.7, 0.6, 0.42),
    ("lighthouse", "rocket.jpg", 0.505, 0.6, 0.66),
    ("umbrella", "camera.png", 0.76, 0.6, 0.46),
    ("tulips", "chelsea.png", 0.4, 0.5, 0.6),
    ("tram", "rocket.jpg", 0.3, 0.7, 0.46),
    ("cat", "room", 0.5, 0.5, 0.42),
    ("cup", "windowsill", 0.4, 0.66, 0.36),
    ("woman", "wardrobe", 0.5, 0.42, 0.48),
    ("suit", "rocket.jpg", 0.3, 0.55, 0.5),
    ("helmet", "beach", 0.6, 0.64, 0.46),
    ("patch", "street", 0.5, 0.66, 0.4),
    ("shuttle", "rocket.jpg", 0.5, 0.5, 0.62),
    ("motorcycle", "meadow", 0.5, 0.62, 0.46),
    ("flag", "cliff", 0.72, 0.5, 0.5),
    ("man", "chelsea.png", 0.56, 0.48, 0.6),
)
FEW = 12  # of the layouts, in the default run


def photograph_subjects(layouts: int = len(LAYOUTS)) -> list[Subject]:
    """The first `layouts` of the list; all of them come with the pair of real views as well."""
    subjects = [_subject(number) for number in range(min(layouts, len(LAYOUTS)))]
    return [*subjects, real_pair()] if layouts >= len(LAYOUTS) else subjects


def real_pair() -> Subject:
    """A motorcycle twice, by the two cameras of a stereo rig: what no pasting has made."""
    scene, outline = photograph("motorcycle_left.png"), CUTOUTS["motorcycle"].outline
    # The right camera sees it further left, the front wheel, which is nearer, by more.
    seen = tuple((x - 42 - x // 50, y) for x, y in outline)
    return Subject(
        name=PAIR,
        thing="motorcycle",
        group=GROUP,
        category="vehicles",
        scene=scene,
        truth=scene,
        reference=cut_along(photograph("motorcycle_right.png"), seen, curved=False),
        reference_mask=None,
        shape=np.asarray(stencil(scene.size, outline, curved=False)),
        prompt=prompt_of("motorcycle"),
        masks_seed=2100,
    )


def _subject(number: int) -> Subject:
    name, place, x, y, height = LAYOUTS[number]
    scene = photograph(place) if "." in place else drawn_scene(place)
    cut = name in CUTOUTS
    thing = cut_out(name) if cut else drawn_thing(name)
    seed = 2000 + number
    pose = RANGES[number % len(RANGES)].draw(np.random.default_rng(seed))
    truth, shape = put(scene, posed(thing, pose), (x, y), height)
    return Subject(
        name=f"{name} in {place.split('.')[0]}",
        thing=name,
        group=GROUP,
        category=CUTOUTS[name].category if cut else OBJECTS[name][0],
        scene=scene,
        truth=truth,
        reference=thing if seed % 2 else on_white(thing),
        reference_mask=None,
        shape=shape,
        prompt=prompt_of(name),
        masks_seed=seed,
    )

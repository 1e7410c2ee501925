"""The held-out cases: what to edit, with which reference, and how the region is marked."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from a2edit.bench.heldout.objects import OBJECTS
from a2edit.bench.heldout.rough import Kind, Mask, rough_mask
from a2edit.bench.heldout.scenes import SCENES
from a2edit.runtime.boxes import Box, tight_box
from a2edit.runtime.errors import RequestError
from a2edit.runtime.request import EditRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One edit to make. Pictures are RGB but for `thing`, which is RGBA."""

    name: str
    category: str  # one of UniEdit's eight
    scene: Image.Image  # without the object
    thing: Image.Image  # the object alone, on transparent ground
    reference: Image.Image  # `thing` as a user would have it: RGBA, or RGB on white
    place: Box  # where `thing` goes, in the scene's pixels
    kind: Kind
    mask: Mask  # u8 [H,W], as painted: an outline is not filled yet
    drawn: bool  # False where the scene is a photograph

    def request(self, steps: int | None = None, seed: int = 0) -> EditRequest:
        """The edit, asked for as a user would: boxes as boxes, other regions as a mask."""
        word = self.name.split(" ")[0]
        prompt = f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
        if self.kind == "box":
            return EditRequest(
                image=self.scene,
                reference=self.reference,
                boxes=[tight_box(self.mask)],
                prompt=prompt,
                steps=steps,
                seed=seed,
            )
        return EditRequest(
            image=self.scene,
            reference=self.reference,
            mask=self.mask,
            prompt=prompt,
            steps=steps,
            seed=seed,
        )

    def truth(self) -> Image.Image:
        """The scene with the object pasted at its place: what a perfect copy would look like."""
        picture = self.scene.copy()
        size = (self.place.width, self.place.height)
        fitted = crop_to_alpha(self.thing).resize(size, Image.Resampling.LANCZOS)
        picture.paste(fitted, (self.place.x0, self.place.y0), fitted)
        return picture


@dataclass(frozen=True, slots=True)
class Layout:
    """An object in a scene: its centre and height as shares of the scene's width and height."""

    thing: str
    scene: str
    x: float
    y: float
    height: float
    kind: Kind


# The first eight are the demo's: one of each category, each in a scene of its own.
DRAWN = (
    Layout("diver", "reef", 0.5, 0.52, 0.5, "blob"),
    Layout("raincoat", "wardrobe", 0.5, 0.44, 0.56, "box"),
    Layout("owl", "forest", 0.54, 0.53, 0.46, "outline"),
    Layout("tulips", "windowsill", 0.3, 0.6, 0.5, "blob"),
    Layout("umbrella", "beach", 0.36, 0.62, 0.56, "scribble"),
    Layout("chair", "room", 0.54, 0.66, 0.44, "ellipse"),
    Layout("tram", "street", 0.48, 0.74, 0.42, "box"),
    Layout("windmill", "meadow", 0.34, 0.48, 0.6, "blob"),
    Layout("lighthouse", "cliff", 0.66, 0.54, 0.54, "blob"),
    Layout("fish", "reef", 0.52, 0.42, 0.36, "ellipse"),
    Layout("scarecrow", "meadow", 0.66, 0.62, 0.5, "outline"),
    Layout("sailboat", "beach", 0.6, 0.46, 0.44, "blob"),
    Layout("poncho", "wardrobe", 0.48, 0.42, 0.46, "scribble"),
    Layout("cactus", "windowsill", 0.68, 0.6, 0.5, "box"),
    Layout("lamp", "room", 0.72, 0.5, 0.38, "blob"),
    Layout("satchel", "street", 0.56, 0.72, 0.4, "ellipse"),
)
# Pictures inside scikit-image's wheel; x, y and height as above.
PHOTOGRAPHS = (
    Layout("cactus", "astronaut.png", 0.8, 0.32, 0.5, "blob"),
    Layout("sailboat", "coffee.png", 0.5, 0.42, 0.66, "ellipse"),
    Layout("fish", "chelsea.png", 0.76, 0.62, 0.42, "outline"),
    Layout("lighthouse", "rocket.jpg", 0.505, 0.64, 0.66, "box"),
)
DEMO_DRAWN = 8


def drawn_cases() -> list[Case]:
    """All sixteen objects, each once, in drawn scenes."""
    scenes = {name: draw() for name, draw in SCENES.items()}
    return [
        _case(layout, scenes[layout.scene], seed, drawn=True)
        for seed, layout in enumerate(DRAWN, start=1)
    ]


def drawn_case(thing: str) -> Case:
    """The drawn case with this object; raises KeyError where there is none."""
    layouts = {layout.thing: (layout, seed) for seed, layout in enumerate(DRAWN, start=1)}
    layout, seed = layouts[thing]
    return _case(layout, SCENES[layout.scene](), seed, drawn=True)


def photograph_cases() -> list[Case]:
    """Four objects in photographs. Raises RequestError where scikit-image is not installed."""
    folder = _photographs()
    cases = []
    for seed, layout in enumerate(PHOTOGRAPHS, start=101):
        with Image.open(folder / layout.scene) as picture:
            cases.append(_case(layout, picture.convert("RGB"), seed, drawn=False))
    return cases


def demo_cases() -> list[Case]:
    """One drawn case of each category, then the photographs."""
    return drawn_cases()[:DEMO_DRAWN] + photograph_cases()


def crop_to_alpha(thing: Image.Image) -> Image.Image:
    box = tight_box(np.asarray(thing.getchannel("A")))
    return thing.crop((box.x0, box.y0, box.x1, box.y1))


def _case(layout: Layout, scene: Image.Image, seed: int, *, drawn: bool) -> Case:
    category, draw = OBJECTS[layout.thing]
    thing = draw()
    height = round(layout.height * scene.height)
    tight = crop_to_alpha(thing)
    width = round(height * tight.width / tight.height)
    x0 = min(max(round(layout.x * scene.width - width / 2), 0), scene.width - width)
    y0 = min(max(round(layout.y * scene.height - height / 2), 0), scene.height - height)
    place = Box(x0, y0, x0 + width, y0 + height)

    shape = Image.new("L", scene.size, 0)
    shape.paste(tight.getchannel("A").resize((width, height), Image.Resampling.LANCZOS), (x0, y0))
    return Case(
        name=f"{layout.thing} in {layout.scene.split('.')[0]}",
        category=category,
        scene=scene,
        thing=thing,
        reference=thing if seed % 2 else _on_white(thing),
        place=place,
        kind=layout.kind,
        mask=rough_mask(np.asarray(shape), layout.kind, seed),
        drawn=drawn,
    )


def _on_white(thing: Image.Image) -> Image.Image:
    ground = Image.new("RGB", thing.size, (255, 255, 255))
    ground.paste(thing, (0, 0), thing)
    return ground


def _photographs() -> Path:
    try:
        import skimage
    except ImportError:
        raise RequestError(
            "the cases with photographs take them from scikit-image, which is not installed: "
            'pip install -c constraints.txt -e ".[bench]"'
        ) from None
    return Path(str(skimage.__file__)).parent / "data"

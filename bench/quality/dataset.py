"""Subjects from training's kinds of data: UniEdit data sets, and the drawn scenes' held-out part.

The target picture is its own ground truth: what is under the mask is hidden from the model.
"""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from a2edit.bench.quality.catalogue import SCENES
from a2edit.bench.quality.subject import Subject
from a2edit.runtime.masks import binarise
from a2edit.training.datasets.source import DrawnScenes
from a2edit.training.datasets.unieditsource import UniEditSource
from a2edit.training.scenes import Sample

DATA = "data"
SCENE_SIZE = 512


def data_subjects(path: Path, per_category: int, categories: tuple[str, ...]) -> list[Subject]:
    """The held-out samples of a UniEdit data set, in its pictures' own sizes.

    Categories take turns. Raises DataError for what is no data set or a damaged one.
    """
    source = UniEditSource(path)

    def subject(category: str, number: int) -> Subject | None:
        if number >= source.count("held_out", category):
            return None
        raw = source.raw(number, "held_out", category)
        scene = Image.fromarray(raw.picture("src"))
        return Subject(
            name=raw.record.id,
            thing=raw.record.id,
            group=DATA,
            category=category,
            scene=scene,
            truth=scene,
            reference=Image.fromarray(raw.picture("ref")),
            reference_mask=raw.mask("ref"),
            shape=raw.mask("src"),
            prompt=raw.record.prompt,
            masks_seed=number,
        )

    return _in_turn(subject, source.categories, per_category, categories)


def scene_subjects(per_category: int, categories: tuple[str, ...]) -> list[Subject]:
    """Kinds of objects that training's drawn scenes keep out of training."""
    source = DrawnScenes()

    def subject(category: str, number: int) -> Subject:
        sample = source.sample(number, SCENE_SIZE, "held_out", category)
        return subject_of_sample(sample, f"{sample.kind} {number}")

    return _in_turn(subject, source.categories, per_category, categories)


def subject_of_sample(sample: Sample, name: str) -> Subject:
    """A training sample as something to be scored on."""
    scene = Image.fromarray(sample.scene)
    return Subject(
        name=name,
        thing=name,
        group=SCENES,
        category=sample.category,
        scene=scene,
        truth=scene,
        reference=Image.fromarray(sample.reference),
        reference_mask=binarise(sample.reference_mask),
        shape=binarise(sample.scene_mask),
        prompt=sample.caption,
        masks_seed=sample.seed,
    )


def _in_turn(
    make: Callable[[str, int], Subject | None],
    known: tuple[str, ...],
    per_category: int,
    wanted: tuple[str, ...],
) -> list[Subject]:
    chosen = [category for category in known if not wanted or category in wanted]
    made = (make(category, number) for number in range(per_category) for category in chosen)
    return [subject for subject in made if subject is not None]

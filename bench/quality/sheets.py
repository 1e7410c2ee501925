"""The pictures of a report: for every subject what went in, what came out, and what is right.

Pictures are made small as they come, so that a run over hundreds of edits keeps little.
"""

from dataclasses import dataclass, field

import numpy as np

from a2edit.bench.page import data_uri
from a2edit.bench.quality.baselines import PASTING
from a2edit.bench.quality.crops import object_square, reference_square
from a2edit.bench.quality.measure import Score
from a2edit.bench.quality.run import MODEL
from a2edit.bench.quality.sides import Painted
from a2edit.bench.quality.subject import Subject
from a2edit.export.pixels import Pixels
from a2edit.runtime.sheet import masked

SIDE = 240
AROUND = 0.4  # of an object's longer side, on each side of it


@dataclass(slots=True)
class Edit:
    """One kind of mask: addresses of the marked scene, the edit and the pasted reference."""

    kind: str
    marked: str
    edit: str
    score: Score
    paste: str = ""


@dataclass(slots=True)
class Sheet:
    """A subject's pictures as addresses, and its edits."""

    name: str
    group: str
    category: str
    reference: str
    truth: str
    edits: list[Edit] = field(default_factory=list)


@dataclass(slots=True)
class Sheets:
    """Collects what a run paints: give `add` to it as `each`."""

    found: dict[tuple[str, str], Sheet] = field(default_factory=dict)

    def add(self, side: str, answer: Painted, score: Score) -> None:
        subject = answer.task.subject
        key = (subject.group, subject.name)
        if side == MODEL:
            sheet = self.found.setdefault(key, _sheet(subject))
            marked = masked(np.asarray(subject.scene), answer.task.region)
            pair = _near(marked, subject), _near(answer.picture, subject)
            sheet.edits.append(Edit(answer.task.kind, *pair, score))
        elif side == PASTING:
            self.found[key].edits[-1].paste = _near(answer.picture, subject)

    def all(self) -> list[Sheet]:
        return list(self.found.values())


def _sheet(subject: Subject) -> Sheet:
    return Sheet(
        name=subject.name,
        group=subject.group,
        category=subject.category,
        reference=data_uri(reference_square(subject), SIDE),
        truth=_near(np.asarray(subject.truth), subject),
    )


def _near(picture: Pixels, subject: Subject) -> str:
    """The object's surroundings."""
    return data_uri(object_square(picture, subject.shape, AROUND), SIDE)

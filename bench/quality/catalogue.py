"""Which subjects a run is over: drawn ones, photographs, training's held-out kinds, a data set."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from a2edit.bench.quality.drawn import GROUP as DRAWN
from a2edit.bench.quality.drawn import drawn_subjects
from a2edit.bench.quality.photographs import FEW, LAYOUTS, photograph_subjects
from a2edit.bench.quality.photographs import GROUP as PHOTOGRAPHS
from a2edit.bench.quality.pose import RANGES
from a2edit.bench.quality.subject import Subject
from a2edit.runtime.errors import RequestError

SCENES = "scenes"
GROUPS = (DRAWN, PHOTOGRAPHS, SCENES)
# Of a data set and of training's scenes; all of them are the papers' test set of 200.
PER_CATEGORY, FEW_PER_CATEGORY = 25, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to score. Without `everything`, what two cores edit in four minutes."""

    groups: tuple[str, ...] = (DRAWN, PHOTOGRAPHS)
    everything: bool = False
    limit: int | None = None  # subjects a group
    categories: tuple[str, ...] = ()  # none: all of them
    data: Path | None = None  # instead of the groups


def chosen(choice: Choice) -> list[Subject]:
    """The subjects of a choice; raises RequestError where nothing is left."""
    subjects: list[Subject] = []
    seen: set[str] = set()
    for make in _makers(choice):
        found = make()
        seen |= {subject.category for subject in found}
        kept = [s for s in found if not choice.categories or s.category in choice.categories]
        subjects += kept[: choice.limit]
    if not subjects:
        where = choice.data or ", ".join(choice.groups)
        raise RequestError(
            f"nothing to score in {where}"
            + (f" of category {', '.join(choice.categories)}" if choice.categories else "")
            + (f": categories there are {', '.join(sorted(seen))}" if seen else "")
        )
    return subjects


def _makers(choice: Choice) -> list[Callable[[], list[Subject]]]:
    def data(path: Path) -> list[Subject]:
        # training's readers import torch, which the rest does without
        from a2edit.bench.quality import dataset

        return dataset.data_subjects(path, _per_category(choice), choice.categories)

    def scenes() -> list[Subject]:
        from a2edit.bench.quality import dataset

        return dataset.scene_subjects(_per_category(choice), choice.categories)

    if choice.data is not None:
        return [partial(data, choice.data)]
    whole = choice.everything
    makers: dict[str, Callable[[], list[Subject]]] = {
        DRAWN: lambda: drawn_subjects(len(RANGES) if whole else 1),
        PHOTOGRAPHS: lambda: photograph_subjects(len(LAYOUTS) if whole else FEW),
        SCENES: scenes,
    }
    for group in choice.groups:
        if group not in makers:
            raise RequestError(f"group {group!r} is unknown: use any of {', '.join(makers)}")
    return [makers[group] for group in choice.groups]


def _per_category(choice: Choice) -> int:
    return PER_CATEGORY if choice.everything else FEW_PER_CATEGORY

"""The held-out figures over a list of cases, for anything that edits: an Editor, the reference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Protocol

import numpy as np

from a2edit.bench.heldout.cases import Case
from a2edit.bench.metrics import identical_outside, middle_colours, own_is_closer, psnr
from a2edit.export.pixels import Pixels
from a2edit.runtime.boxes import Box
from a2edit.runtime.masks import boxes_mask, fill_outline, resize_mask
from a2edit.runtime.request import EditRequest, EditResult


class Edits(Protocol):
    """What a bundle's Editor and the torch pipeline have in common."""

    def edit(self, request: EditRequest) -> EditResult: ...


@dataclass(frozen=True, slots=True, eq=False)
class Edited:
    """A case, what came back, and how long it took."""

    case: Case
    result: EditResult
    region: Pixels  # u8 [H,W], 255 = repainted
    seconds: float


@dataclass(frozen=True, slots=True)
class CaseFigures:
    """One case's figures; `psnr_db` is against the object pasted in place, drawn cases only."""

    name: str
    own_closer: float  # share of the other references that the edit is further from
    identical_outside: float
    psnr_db: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Over all cases: shares are of comparisons and of pixels, seconds the median."""

    cases: tuple[CaseFigures, ...]
    own_closer: float
    comparisons: int
    identical_outside: float  # the worst case's
    psnr_db: float | None
    seconds: float


def edit_cases(
    editor: Edits,
    cases: Sequence[Case],
    clock: Callable[[], float],
    each: Callable[[Edited], None] = lambda _: None,
) -> list[Edited]:
    """Edit every case in turn with its own seed 0; `each` is told of every one that is done."""
    done = []
    for case in cases:
        start = clock()
        result = editor.edit(case.request())
        done.append(Edited(case, result, region_of(case), clock() - start))
        each(done[-1])
    return done


def region_of(case: Case) -> Pixels:
    """What the runtime repaints for a case: an outline's inside, a box as it is: u8 [H,W]."""
    request = case.request()
    height, width = case.mask.shape
    if request.mask is None:
        return boxes_mask([Box.of(box) for box in request.boxes], width, height)
    return fill_outline(resize_mask(case.mask, width, height))


def figures(edited: Sequence[Edited]) -> Figures:
    """Every figure of the held-out check; needs two or more cases with different objects."""
    if not edited:
        raise ValueError("figures over no cases")
    pictures = [np.asarray(one.result.image.convert("RGB")) for one in edited]
    painted = [
        middle_colours(picture, one.region) for picture, one in zip(pictures, edited, strict=True)
    ]
    wanted = [reference_colours(one.case) for one in edited]
    verdicts = own_is_closer(painted, wanted)
    rows = tuple(
        CaseFigures(
            name=one.case.name,
            own_closer=float(verdict.mean()),
            identical_outside=identical_outside(np.asarray(one.case.scene), picture, one.region),
            psnr_db=_against_truth(one, picture) if one.case.drawn else None,
            seconds=one.seconds,
        )
        for one, picture, verdict in zip(edited, pictures, verdicts, strict=True)
    )
    decibels = [row.psnr_db for row in rows if row.psnr_db is not None]
    flat = np.concatenate(verdicts)
    return Figures(
        cases=rows,
        own_closer=float(flat.mean()),
        comparisons=int(flat.size),
        identical_outside=min(row.identical_outside for row in rows),
        psnr_db=fmean(decibels) if decibels else None,
        seconds=median(row.seconds for row in rows),
    )


def reference_colours(case: Case) -> Pixels:
    """Colours in the middle of the reference's object: u8 [n,3]."""
    thing = np.asarray(case.thing)
    return middle_colours(thing[..., :3], thing[..., 3])


def _against_truth(one: Edited, picture: Pixels) -> float:
    return psnr(picture, np.asarray(one.case.truth()), one.region)

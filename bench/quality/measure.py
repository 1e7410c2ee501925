"""From painted tasks to figures: one `Score` an edit, everything that needs no weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from a2edit.bench.metrics import Histogram, colour_histogram, histogram_distance
from a2edit.bench.quality.pixels import edge_f1, identical_share
from a2edit.bench.quality.sides import Painted
from a2edit.bench.quality.subject import MaskKind, Subject, middle_of
from a2edit.export.pixels import Bools, Pixels, Zones, by_zone, psnr_within


@dataclass(frozen=True, slots=True)
class Score:
    """One edit's figures by metric; a metric that could not be taken is not there."""

    side: str
    subject: str
    group: str
    category: str
    kind: MaskKind
    values: Mapping[str, float]
    comparisons: int  # how many references `closer` is a share of

    def with_values(self, more: Mapping[str, float]) -> "Score":
        return replace(self, values={**self.values, **more})


class Rivals:
    """The references of a run by group: an edit is held against all of its group's others.

    An object counts once, by the first subject that has it.
    """

    def __init__(self, subjects: Sequence[Subject]) -> None:
        self._groups: dict[str, dict[str, Histogram]] = {}
        for subject in subjects:
            known = self._groups.setdefault(subject.group, {})
            if subject.thing not in known:
                known[subject.thing] = colour_histogram(subject.colours())

    def verdicts(self, subject: Subject, picture: Pixels) -> Bools:
        """For every other object's reference, whether this one's place is closer to its own."""
        known = self._groups[subject.group]
        painted = colour_histogram(middle_of(picture, subject.shape))
        own = histogram_distance(painted, known[subject.thing])
        others = [known[thing] for thing in known if thing != subject.thing]
        return np.array([own < histogram_distance(painted, other) for other in others], dtype=bool)


def score(side: str, answer: Painted, rivals: Rivals) -> Score:
    """Everything that needs no weights; colours are looked at in the middle of the object's place.

    The place is the truth's and the same for every kind of mask, so that a looser mask is not
    marked down for holding more of the scene.
    """
    subject, region = answer.task.subject, answer.task.region
    truth, scene = np.asarray(subject.truth), np.asarray(subject.scene)
    verdicts = rivals.verdicts(subject, answer.picture)
    values: dict[str, float] = {}
    if verdicts.size:
        values["closer"] = 100 * float(verdicts.mean())
    for name, found in by_zone(answer.picture, truth, Zones.of(region), ("mask", "band")).items():
        values |= {
            f"psnr_{name}": found.psnr_db,
            f"ssim_{name}": found.ssim,
            f"l1_{name}": found.l1,
        }
    values["psnr_object"] = psnr_within(answer.picture, truth, subject.shape >= 128)
    values["edges"] = edge_f1(answer.picture, truth, region)
    kept = identical_share(answer.picture, scene, region)
    if kept is not None:
        values["kept"] = 100 * kept
    values |= _raw(answer, truth, region)
    if answer.seconds:
        values |= {"seconds": answer.seconds, "active": answer.active}
    return Score(
        side=side,
        subject=subject.name,
        group=subject.group,
        category=subject.category,
        kind=answer.task.kind,
        values=values,
        comparisons=int(verdicts.size),
    )


def _raw(answer: Painted, truth: Pixels, region: Pixels) -> dict[str, float]:
    if answer.raw is None or answer.seen is None:
        return {}
    zones = Zones.of(region, answer.seen)
    return {
        f"raw_{measure}_{name}": value
        for name, found in by_zone(answer.raw, truth, zones, ("band", "outside")).items()
        for measure, value in (("psnr", found.psnr_db), ("ssim", found.ssim), ("l1", found.l1))
    }

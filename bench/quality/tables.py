"""Scores put together: means over a group and a kind of mask, by category, and pair by pair."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from a2edit.bench.quality.measure import Score
from a2edit.bench.quality.metric import METRICS

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of mean values; a row's name is its key, `counts` how many edits it is the mean of."""

    title: str
    heads: tuple[str, ...]  # what the parts of a row's key are
    metrics: tuple[str, ...]
    rows: Mapping[Key, Mapping[str, float]]
    counts: Mapping[Key, int]


def table(
    title: str,
    scores: Iterable[Score],
    heads: tuple[str, ...],
    key: Callable[[Score], Key],
    metrics: Sequence[str] = tuple(METRICS),
    sets: Mapping[Key, Mapping[str, float]] | None = None,
) -> Table:
    """Means by key, in the order in which keys first come; columns that nobody has are left out.

    `closer` is over comparisons, so that a case with fewer of them counts for less. `sets` are
    figures that are no means, by the rows' keys.
    """
    gathered: dict[Key, list[Score]] = {}
    for one in scores:
        gathered.setdefault(key(one), []).append(one)
    rows = {
        name: {**means(found, metrics), **(sets or {}).get(name, {})}
        for name, found in gathered.items()
    }
    present = tuple(metric for metric in metrics if any(metric in row for row in rows.values()))
    counts = {name: len(found) for name, found in gathered.items()}
    return Table(title, heads, present, rows, counts)


def means(scores: Sequence[Score], metrics: Sequence[str] = tuple(METRICS)) -> dict[str, float]:
    """Mean of every metric that some score has."""
    found = {}
    for metric in metrics:
        values = [one.values[metric] for one in scores if metric in one.values]
        if metric == "closer" and values:
            judged = [one for one in scores if metric in one.values]
            total = sum(one.comparisons for one in judged)
            found[metric] = sum(one.values[metric] * one.comparisons for one in judged) / total
        elif values:
            found[metric] = fmean(values)
    return found


def tables_of(
    scores: Mapping[str, Sequence[Score]],
    model: str,
    sets: Mapping[Key, Mapping[str, float]],
    held_out: Sequence[str] = (),
    metrics: Sequence[str] = tuple(METRICS),
) -> list[Table]:
    """Everything against everything by group and kind of mask, then the model by category.

    With `held_out`, categories that the model was not trained on stand apart (the papers'
    appendix E).
    """
    everything = [one for found in scores.values() for one in found]
    own = scores[model]
    made = []
    for group in dict.fromkeys(one.group for one in everything):
        of_group = [one for one in everything if one.group == group]
        here: dict[Key, Mapping[str, float]] = {
            (key[0], key[2]): values for key, values in sets.items() if key[1] == group
        }
        made.append(
            table(group, of_group, ("side", "mask"), lambda s: (s.side, s.kind), metrics, here)
        )
    if held_out:
        made.append(
            table(
                "categories left out of training, and the others",
                own,
                ("training", "mask"),
                lambda s: ("left out" if s.category in held_out else "seen", s.kind),
                metrics,
            )
        )
    by_category = sorted(own, key=lambda s: s.category in held_out)
    made.append(
        table(
            "by category",
            by_category,
            ("category",),
            lambda s: (f"{s.category} (left out)" if s.category in held_out else s.category,),
            metrics,
        )
    )
    return made


@dataclass(frozen=True, slots=True)
class Difference:
    """How a kind of mask does against fine ones on the same subjects; percent and decibels."""

    group: str
    kind: str
    pairs: int
    closer: float
    psnr_object: float


def against_fine(scores: Sequence[Score]) -> list[Difference]:
    """Every kind against "fine" of one side's scores, by group, over subjects that have both."""
    by_task = {(one.group, one.subject, one.kind): one for one in scores}
    found = []
    for group in dict.fromkeys(one.group for one in scores):
        for kind in dict.fromkeys(one.kind for one in scores if one.kind != "fine"):
            pairs = [
                (by_task[group, subject, "fine"], one)
                for (of, subject, this), one in by_task.items()
                if of == group and this == kind and (group, subject, "fine") in by_task
            ]
            if not pairs:
                continue
            fine, other = means([pair[0] for pair in pairs]), means([pair[1] for pair in pairs])
            found.append(
                Difference(
                    group,
                    kind,
                    len(pairs),
                    other.get("closer", 0.0) - fine.get("closer", 0.0),
                    other["psnr_object"] - fine["psnr_object"],
                )
            )
    return found

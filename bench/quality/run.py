"""One run: every task painted by a side and by the baselines, scored, and put into rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from a2edit.bench.quality.baselines import BASELINES
from a2edit.bench.quality.measure import Rivals, Score, score
from a2edit.bench.quality.metric import METRICS
from a2edit.bench.quality.sides import Painted, Side
from a2edit.bench.quality.subject import MaskKind, Subject, tasks
from a2edit.bench.quality.tables import Key, means
from a2edit.bench.rows import Row, Setup

MODEL = "model"
# What goes into the CSV that is kept; JSON and report have everything.
ROWS = ("closer", "psnr_mask", "psnr_object", "ssim_mask", "edges", "raw_psnr_band",
        "clip_i", "dino_i", "lpips", "fid", "vlm")  # fmt: skip
BASELINE_ROWS = ("closer", "psnr_mask", "psnr_object", "clip_i", "dino_i", "lpips", "fid")


Scorer = Callable[[str, Painted], Mapping[str, float]]
Each = Callable[[str, Painted, Score], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The scores of a side, under MODEL, and of the baselines; every list in the tasks' order."""

    name: str
    steps: int
    scores: Mapping[str, Sequence[Score]]
    # of whole sets: by side, group and kind of mask
    sets: Mapping[Key, Mapping[str, float]] = field(default_factory=dict)

    def all_scores(self) -> list[Score]:
        return [one for scores in self.scores.values() for one in scores]


def run(
    side: Side,
    subjects: Sequence[Subject],
    kinds: Sequence[MaskKind],
    steps: int | None = None,
    scorers: Sequence[Scorer] = (),
    each: Each = lambda _side, _answer, _score: None,
) -> Outcome:
    """Paint and score every task; pictures are not kept, but `each` sees every one of them.

    `scorers` add to what is measured without weights; what they say of a picture goes with it.
    """
    rivals = Rivals(subjects)
    scores: dict[str, list[Score]] = {MODEL: [], **{name: [] for name in BASELINES}}
    for task in tasks(subjects, kinds):
        answers = {MODEL: side.paint(task, steps)}
        answers |= {name: paint(task) for name, paint in BASELINES.items()}
        for name, answer in answers.items():
            found = score(name, answer, rivals)
            for scorer in scorers:
                found = found.with_values(scorer(name, answer))
            scores[name].append(found)
            each(name, answer, found)
    return Outcome(side.name, steps or side.steps, scores)


def rows_of(outcome: Outcome, setup: Setup) -> list[Row]:
    """Rows for the CSV: by group and kind of mask, the model's and the baselines' figures.

    Shares and sets' figures are one number; of others the percentiles are over cases.
    """
    rows = []
    for side, scores in outcome.scores.items():
        for group, kind in dict.fromkeys((one.group, one.kind) for one in scores):
            found = [one for one in scores if (one.group, one.kind) == (group, kind)]
            mean = {**means(found), **outcome.sets.get((side, group, kind), {})}
            for key in ROWS if side == MODEL else BASELINE_ROWS:
                if key not in mean:
                    continue
                values = [one.values[key] for one in found if key in one.values]
                whole = key == "closer" or not values
                subject = f"{side}: {group}, {kind}: {METRICS[key].title}"
                unit = METRICS[key].unit or "1"
                rows.append(setup.row(subject, unit, [mean[key]] if whole else values))
    return rows

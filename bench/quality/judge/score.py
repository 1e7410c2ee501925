"""The judge: three questions about an edit, three scores from 0 to 100, and their mean."""

import json
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from a2edit.bench.quality.judge.endpoint import Endpoint, NoAnswerError
from a2edit.bench.quality.judge.prompts import PROMPTS
from a2edit.bench.quality.sides import Painted
from a2edit.bench.quality.subject import Task
from a2edit.runtime.errors import RequestError

ATTEMPTS = 2  # at an answer with a score in it


class Judge:
    """Scores a model's edits; baselines are left out, each question costs.

    An answer without a score is asked for again, and then left out: `unanswered` counts those, and
    keeps what the last one said. An endpoint that has never answered is an error instead.
    """

    def __init__(self, endpoint: Endpoint, sides: tuple[str, ...]) -> None:
        self.endpoint, self.sides = endpoint, sides
        self.answered, self.unanswered, self.last = 0, 0, ""

    def __call__(self, side: str, answer: Painted) -> dict[str, float]:
        """vlm_boundary, vlm_realism, vlm_consistency, and their mean as vlm where all are there."""
        if side not in self.sides:
            return {}
        pictures = four_pictures(answer.task, Image.fromarray(answer.picture))
        values: dict[str, float] = {}
        for prompt in PROMPTS:
            score = self._score(prompt.text, pictures)
            if score is not None:
                values[prompt.key] = score
        if len(values) == len(PROMPTS):
            values["vlm"] = fmean(values.values())
        return values

    def _score(self, prompt: str, pictures: list[tuple[str, Image.Image]]) -> float | None:
        for _ in range(ATTEMPTS):
            try:
                words = self.endpoint.ask(prompt, pictures)
            except NoAnswerError as error:
                if not self.answered:
                    raise RequestError(f"{error}: is it running, and is --vlm-url right?") from None
                self.last = str(error)
                break
            self.answered += 1
            score = score_in(words)
            if score is not None:
                return score
            self.last = f"no score from 0 to 100 in {words!r:.200}"
        self.unanswered += 1
        return None


def four_pictures(task: Task, generated: Image.Image) -> list[tuple[str, Image.Image]]:
    """Original, reference on white, mask, and the edit: what the paper's judge is shown."""
    rgb, alpha = task.subject.object_pixels()
    reference = Image.new("RGB", (rgb.shape[1], rgb.shape[0]), (255, 255, 255))
    reference.paste(Image.fromarray(rgb), (0, 0), Image.fromarray(alpha))
    return [
        ("Original image", task.subject.scene),
        ("Reference image", reference),
        ("Mask (edited region indicator)", Image.fromarray(np.asarray(task.region))),
        ("Generated image", generated),
    ]


def score_in(words: str) -> float | None:
    """The score of the first JSON object with one from 0 to 100; words around it do no harm."""
    decoder = json.JSONDecoder()
    start = words.find("{")
    while start >= 0:
        try:
            found: Any = decoder.raw_decode(words, start)[0]
        except ValueError:
            found = None
        score = found.get("score") if isinstance(found, dict) else None
        if isinstance(score, str) and score.strip().isdigit():
            score = int(score)
        if isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 100:
            return float(score)
        start = words.find("{", start + 1)
    return None

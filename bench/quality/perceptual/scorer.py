"""The networks that a run was given weights for, as one scorer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from a2edit.bench.quality.crops import object_square, reference_square
from a2edit.bench.quality.perceptual.embed import Embedder, Kind, likeness
from a2edit.bench.quality.perceptual.fid import Features, Key, Sets
from a2edit.bench.quality.perceptual.inception import Inception
from a2edit.bench.quality.perceptual.lpips import Lpips, distance
from a2edit.bench.quality.perceptual.sources import Sources
from a2edit.bench.quality.sides import Painted
from a2edit.bench.quality.subject import Subject
from a2edit.export.pixels import Pixels


class Perceptual:
    """Scores pictures by the networks of `sources`; FID is of sets, told at the end by `sets`."""

    def __init__(self, sources: Sources) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        embedders: dict[Kind, str | None] = {"clip": sources.clip, "dino": sources.dino}
        self._embedders = {
            kind: Embedder(kind, source, device) for kind, source in embedders.items() if source
        }
        self._lpips = Lpips.load(sources.lpips).to(device) if sources.lpips else None
        self._inception = Inception.load(sources.fid).to(device) if sources.fid else None
        self._device = device
        self._sets = Sets()
        self._known: dict[Key, Any] = {}  # what is the same for every edit of a subject

    def __call__(self, side: str, answer: Painted) -> dict[str, float]:
        """Figures of one picture."""
        subject, values = answer.task.subject, dict[str, float]()
        square = object_square(answer.picture, subject.shape)
        for kind, embed in self._embedders.items():
            wanted = self._once(subject, kind, partial(_reference_embedding, embed, subject))
            values[f"{kind}_i"] = likeness(embed([square])[0], wanted)
        truth = np.asarray(subject.truth)
        if self._lpips is not None:
            values["lpips"] = distance(self._lpips, answer.picture, truth)
            right = np.asarray(object_square(truth, subject.shape))
            values["lpips_object"] = distance(self._lpips, np.asarray(square), right)
        if self._inception is not None:
            wanted = self._once(subject, "fid", lambda: self._features(truth))
            key = (side, subject.group, answer.task.kind)
            self._sets.add(key, self._features(answer.picture), wanted)
        return values

    def sets(self) -> dict[Key, dict[str, float]]:
        """FID by side, group and kind of mask, against the truths of the same tasks."""
        return {key: {"fid": value} for key, value in self._sets.distances().items()}

    def _features(self, picture: Pixels) -> Features:
        if self._inception is None:
            raise ValueError("there is no Inception to ask")
        with torch.inference_mode():
            pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(self._device)
            found: Features = self._inception(pixels)[0].double().cpu().numpy()
            return found

    def _once(self, subject: Subject, what: str, make: Callable[[], Any]) -> Any:
        key = (what, subject.group, subject.name)
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def _reference_embedding(embed: Embedder, subject: Subject) -> Tensor:
    return embed([reference_square(subject)])[0]

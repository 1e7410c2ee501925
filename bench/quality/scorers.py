"""The metrics that a command line asks for beyond those that need no weights."""

import os
from collections.abc import Mapping
from typing import Any

from a2edit.bench.quality.perceptual.sources import FLAGS, Sources
from a2edit.bench.quality.run import MODEL, Scorer
from a2edit.runtime.errors import RequestError


class Scorers:
    """What the options ask for beyond the metrics without weights."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Takes its own options out of `options`; opens networks, so that a bad path shows now."""
        sources = Sources(**{flag: options.pop(flag) for flag in FLAGS.values()})
        url, name = options.pop("vlm_url"), options.pop("vlm_model")
        self._missing = sources.missing()
        self.perceptual: Any = None
        self.judge: Any = None
        if len(self._missing) < len(FLAGS):
            from a2edit.bench.quality.perceptual.scorer import Perceptual
            from a2edit.bench.reference import quiet

            quiet()
            self.perceptual = Perceptual(sources)
        if bool(url) != bool(name):
            raise RequestError("--vlm-url and --vlm-model go together: give both or none")
        if url:
            from a2edit.bench.quality.judge.endpoint import Endpoint
            from a2edit.bench.quality.judge.score import Judge

            key = os.environ.get("OPENAI_API_KEY")
            self.judge = Judge(Endpoint(url=url, model=name, key=key), (MODEL,))

    def all(self) -> list[Scorer]:
        return [scorer for scorer in (self.perceptual, self.judge) if scorer is not None]

    def sets(self) -> Mapping[tuple[str, ...], Mapping[str, float]]:
        return self.perceptual.sets() if self.perceptual is not None else {}

    def notes(self) -> list[str]:
        """What was not measured, said plainly."""
        notes = []
        if self._missing:
            flags = " ".join(f"--{FLAGS[metric]}" for metric in self._missing)
            notes.append(f"Not measured: {', '.join(self._missing)} (no weights given: {flags}).")
        if self.judge is None:
            notes.append("Not measured: VLM score (no judge given: --vlm-url, --vlm-model).")
        elif self.judge.unanswered:
            notes.append(
                f"The judge gave no score to {self.judge.unanswered} questions; the last time: "
                f"{self.judge.last}"
            )
        return notes

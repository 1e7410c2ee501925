"""What can be wrong with a data set, and the account of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from a2edit.training.datasets.uniedit import Entry

# Code: what it means. What makes a sample useless or a figure wrong is an error.
ERRORS: Final[dict[str, str]] = {
    "broken-unit": "a shard or folder cannot be read to its end",
    "missing-file": "a sample lacks one of its five files",
    "bad-json": "the json cannot be read, or lacks something",
    "name-differs": "the json's id is not the name of the files",
    "same-id": "several samples have one id",
    "unreadable-picture": "a picture or a mask cannot be decoded",
    "size-differs": "the json's size is not the picture's",
    "mask-size": "a mask has another size than its picture",
    "empty-mask": "a mask has no pixel of 128 or more",
    "box-differs": "the json's box is not the mask's tight box",
    "sha256-differs": "a file is not the one that the json was written for",
    "leak": "a picture is in both splits, so that the test is not held out",
}
WARNINGS: Final[dict[str, str]] = {
    "full-mask": "a mask covers the whole picture",
    "soft-mask": "a mask has levels other than 0 and 255",
    "small-picture": "the shorter side is under the least that was asked for",
    "small-object": "the object's longer side is under an eighth of that",
    "same-picture": "several samples share a picture",
    "own-reference": "the reference is the target picture itself",
    "unknown-category": "the category is none of UniEdit's",
    "no-prompt": "the prompt is empty",
}
# Of each code, this many are listed; all are counted.
LISTED = 100


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    sample: str  # its key, or an id; empty where no sample is meant
    unit: str
    detail: str


@dataclass(slots=True)
class Report:
    """Grows while a data set is checked.

    Attributes:
        counts: samples whose json could be read, by (category, split).
        subcategories: the same by (category, subcategory).
        tally: findings by code; `findings` lists the first `LISTED` of each.
        faulty: samples with an error.
        picks: a few sound samples of each category, drawn evenly, for a sheet.
    """

    path: str
    samples: int = 0
    faulty: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    subcategories: Counter[tuple[str, str]] = field(default_factory=Counter)
    tally: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    picks: dict[str, list[Entry]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, finding: Finding) -> None:
        self.tally[finding.code] += 1
        if self.tally[finding.code] <= LISTED:
            self.findings.append(finding)

    @property
    def errors(self) -> int:
        return sum(count for code, count in self.tally.items() if code in ERRORS)

    @property
    def warnings(self) -> int:
        return sum(count for code, count in self.tally.items() if code in WARNINGS)

    @property
    def categories(self) -> list[str]:
        return sorted({category for category, _ in self.counts})

    def to_json(self) -> dict[str, Any]:
        """For machines; keys stay."""
        return {
            "path": self.path,
            "samples": self.samples,
            "faulty_samples": self.faulty,
            "errors": self.errors,
            "warnings": self.warnings,
            "seconds": round(self.seconds, 3),
            "counts": _nested(self.counts),
            "subcategories": _nested(self.subcategories),
            "tally": dict(sorted(self.tally.items())),
            "listed_per_code": LISTED,
            "findings": [
                {
                    "severity": "error" if finding.code in ERRORS else "warning",
                    "code": finding.code,
                    "sample": finding.sample,
                    "unit": finding.unit,
                    "detail": finding.detail,
                }
                for finding in self.findings
            ],
        }


def _nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (category, name), count in sorted(counts.items()):
        nested.setdefault(category, {})[name] = count
    return nested

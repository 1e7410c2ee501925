"""Many edits from one file: jobs.jsonl, one request a line.

    {"id": "sofa", "image": "room.jpg", "mask": "m.png", "reference": "sofa.png", "seed": 3}

The keys are EditRequest's fields and `id`, the output's name (default: the line's number, 0001).
Paths are relative to the job file. A job whose output exists, made from the same line by the same
bundle under the same route tolerance and step cache, is finished and skipped, so a list that was
interrupted goes on where it stopped. The stamp does not cover the contents of the pictures: delete
an output to have it made again.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from a2edit.runtime.batch import edits_by_route
from a2edit.runtime.editor import Editor
from a2edit.runtime.errors import A2EditError, RequestError
from a2edit.runtime.images import save_picture
from a2edit.runtime.request import EditRequest, EditResult

STAMP = "a2edit:job"
PATHS = ("image", "mask", "reference", "reference_mask")
OPTIONS = ("boxes", "prompt", "steps", "seed", "size", "resize_mask")


@dataclass(frozen=True, slots=True)
class Job:
    """One line of the file: a request, or the reason why it is none."""

    line: int
    name: str
    request: EditRequest | None
    problem: str
    digest: str  # of the line's content

    def output(self, folder: Path) -> Path:
        return folder / f"{self.name}.png"


@dataclass(frozen=True, slots=True)
class Outcome:
    job: Job
    status: str  # "done", "skipped", "failed"
    problem: str = ""


def read_jobs(path: Path) -> list[Job]:
    """Read a job file; a bad line becomes a job that fails, a bad file is refused."""
    if not path.is_file():
        raise RequestError(f"jobs {str(path)!r} does not exist: give a file with one job a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise RequestError(f"jobs {str(path)!r} cannot be read: {error}") from None
    jobs = [_job(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not jobs:
        raise RequestError(f"jobs {str(path)!r} is empty: give one JSON object a line")
    names: dict[str, int] = {}
    for job in jobs:
        if job.name in names:
            raise RequestError(
                f"jobs {str(path)!r}: lines {names[job.name]} and {job.line} have the same id "
                f"{job.name!r} and would write the same file: give each its own"
            )
        names[job.name] = job.line
    return jobs


def _job(path: Path, number: int, line: str) -> Job:
    name, digest = f"{number:04}", ""
    try:
        content = json.loads(line)
        if not isinstance(content, dict):
            raise RequestError("not a JSON object")
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        name = _name(content.pop("id", name))
        return Job(number, name, _request(content, path.parent), "", digest)
    except A2EditError as error:
        return Job(number, name, None, str(error), digest)
    except (ValueError, RecursionError) as error:
        return Job(number, name, None, f"not JSON: {error}", digest)


def _name(value: Any) -> str:
    name = str(value)
    if not name or name.startswith(".") or any(mark in name for mark in '/\\:*?"<>|\0'):
        raise RequestError(f"id {name!r} cannot be a file's name")
    return name


def _request(content: dict[str, Any], folder: Path) -> EditRequest:
    if unknown := sorted(content.keys() - {*PATHS, *OPTIONS}):
        raise RequestError(
            f"unknown keys {', '.join(unknown)}; known are id, {', '.join((*PATHS, *OPTIONS))}"
        )
    if missing := [key for key in ("image", "reference") if not content.get(key)]:
        raise RequestError(f"{' and '.join(missing)} missing")
    for key in PATHS:
        if isinstance(content.get(key), str):
            content[key] = folder / content[key]
        elif content.get(key) is not None:
            raise RequestError(f"{key} must be a path, got {content[key]!r}")
    if not isinstance(content.get("boxes", []), list):
        raise RequestError(f"boxes must be a list of [x0, y0, x1, y1], got {content['boxes']!r}")
    return EditRequest(**content)


def run_jobs(editor: Editor, jobs: list[Job], folder: Path) -> Iterator[Outcome]:
    """Carry out the jobs, grouped by route; each outcome as it comes, none stops the rest."""
    if not folder.is_dir():
        raise RequestError(
            f"output folder {str(folder)!r} does not exist: create it first, or write elsewhere"
        )
    inputs = {path.resolve() for job in jobs for path in _paths(job)}
    settled: deque[Outcome] = deque()  # without an edit
    started: list[tuple[Job, str]] = []

    def requests() -> Iterator[EditRequest]:
        for job in jobs:
            stamp = _stamp(job, editor)
            if job.request is None:
                settled.append(Outcome(job, "failed", job.problem))
            elif job.output(folder).resolve() in inputs:
                problem = f"{str(job.output(folder))!r} is an input of the list: give another id"
                settled.append(Outcome(job, "failed", problem))
            elif _is_finished(job.output(folder), stamp):
                settled.append(Outcome(job, "skipped"))
            else:
                started.append((job, stamp))
                yield job.request

    for index, outcome in edits_by_route(editor, requests()):
        while settled:
            yield settled.popleft()
        yield _saved(*started[index], outcome, folder)
    yield from settled


def _stamp(job: Job, editor: Editor) -> str:
    """What an output of `job` carries: the line, and what its pixels depend on besides."""
    bundle, tolerance = editor.bundle.manifest.bundle_hash, editor.routes.tolerance
    cache = editor.cache or ""
    return hashlib.sha256(f"{job.digest}{bundle}{tolerance}{cache}".encode()).hexdigest()


def _saved(job: Job, stamp: str, outcome: EditResult | Exception, folder: Path) -> Outcome:
    if isinstance(outcome, EditResult):
        try:
            save_picture(outcome.image, job.output(folder), outcome.text() | {STAMP: stamp})
        except (A2EditError, OSError, MemoryError) as error:
            outcome = error
    if isinstance(outcome, Exception):
        return Outcome(job, "failed", str(outcome) or "out of memory")
    return Outcome(job, "done")


def _paths(job: Job) -> Iterator[Path]:
    for key in PATHS:
        if isinstance(path := getattr(job.request, key, None), Path):
            yield path


def _is_finished(output: Path, stamp: str) -> bool:
    try:
        with Image.open(output) as image:
            return image.info.get(STAMP) == stamp
    except (OSError, ValueError, SyntaxError):
        return False

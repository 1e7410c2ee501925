"""One side of a comparison in a process of its own, so that its memory and imports are its own.

    python -m a2edit.bench.worker SIDE MODEL REQUEST.json

SIDE is one of `SIDES`; MODEL is a bundle for engines, and a checkpoint for torch. Prints one line
of JSON: seconds to import and open, seconds of the first and of a second edit, and the peak
resident set in MB. The request names pictures as files: drawing them is not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2edit.runtime.errors import EngineError
from a2edit.runtime.memory import peak_resident_mb

if TYPE_CHECKING:
    from a2edit.bench.figures import Edits

# Sides that edit by a bundle, and how each opens it.
ENGINES: dict[str, dict[str, Any]] = {
    "engine": {},
    "onnxruntime": {"engine": "onnxruntime"},
    "cached": {"cache": "first-block"},
}
SIDES = (*ENGINES, "torch", "merged", "peft")


def main(side: str, model: str, request: str) -> dict[str, float]:
    start = time.perf_counter()
    editor = open_side(side, model)
    opened = time.perf_counter()

    from a2edit.runtime.request import EditRequest

    asked: dict[str, Any] = json.loads(Path(request).read_text(encoding="utf-8"))
    marks = [time.perf_counter()]
    for _ in range(2):
        editor.edit(EditRequest(**asked))
        marks.append(time.perf_counter())
    return {
        "open": opened - start,
        "first": marks[1] - marks[0],
        "second": marks[2] - marks[1],
        "peak": peak_resident_mb(),
    }


def open_side(side: str, model: str) -> Edits:
    """What edits, by the name of its side; nothing is imported that it does not need."""
    if side in ENGINES:
        from a2edit import Editor

        return Editor.open(model, **ENGINES[side])
    from a2edit.bench import reference

    opens = {
        "torch": reference.torch_reference,
        "merged": reference.merged_reference,
        "peft": reference.peft_reference,
    }
    return opens[side](model)


def in_process(side: str, model: str, request: Path) -> dict[str, float]:
    """What `main` gives, from a process of its own."""
    command = [sys.executable, "-m", "a2edit.bench.worker", side, model, str(request)]
    figures: dict[str, float] = json.loads(output_of(command).splitlines()[-1])
    return figures


def output_of(command: list[str]) -> str:
    """Of a process that ends well; raises EngineError with its last line where it does not."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineError(f"{' '.join(command[1:4])} … exited with {done.returncode}: {last}")
    return done.stdout


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")

"""One side of the comparison in a process of its own, so that its memory and imports are its own.

    python -m a2edit.bench.worker engine BUNDLE REQUEST.json
    python -m a2edit.bench.worker torch CHECKPOINT REQUEST.json

Prints one line of JSON: seconds to import and open, seconds of the first and of a second edit, and
the peak resident set in MB. The request names pictures as files: drawing them is not counted.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from a2edit.runtime.memory import peak_resident_mb


def main(side: str, model: str, request: str) -> dict[str, float]:
    start = time.perf_counter()
    editor = _open(side, model)
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


def _open(side: str, model: str) -> Any:
    if side == "engine":
        from a2edit import Editor

        return Editor.open(model)
    from a2edit.bench.reference import torch_reference

    return torch_reference(model)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")

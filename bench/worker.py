"""One side of the comparison in a process of its own, so that its memory and imports are its own.

    python -m a2edit.bench.worker engine BUNDLE REQUEST.json
    python -m a2edit.bench.worker torch CHECKPOINT REQUEST.json

Prints one line of JSON: seconds to import and open, seconds of the first and of a second edit, and
the peak resident set in MB. The request names pictures as files: drawing them is not counted.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


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


def peak_resident_mb() -> float:
    """The peak resident set of this very process, in MB.

    Linux keeps the parent's peak in ru_maxrss across fork and exec, so a small child of a large
    process would report the parent's; VmHWM starts anew with the program.
    """
    peak = status_mb("VmHWM")
    if peak is None:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6
    return peak


def status_mb(field: str) -> float | None:
    """A figure of Linux's /proc/self/status in MB, such as VmRSS; None on other systems."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith(f"{field}:")), None)
    return int(found) * 1024 / 1e6 if found else None


def _open(side: str, model: str) -> Any:
    if side == "engine":
        from a2edit import Editor

        return Editor.open(model)
    from a2edit.bench.reference import torch_reference

    return torch_reference(model)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")

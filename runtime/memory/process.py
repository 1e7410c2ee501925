"""How much memory this process takes, as the system counts it."""

import ctypes
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal


def peak_resident_mb() -> float:
    """The peak resident set of this very process, in MB.

    Linux keeps the parent's peak in ru_maxrss across fork and exec, so a small child of a large
    process would report the parent's; VmHWM starts anew with the program.
    """
    peak = status_mb("VmHWM")
    if peak is not None:
        return peak
    import resource  # which not every system has

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6


def status_mb(field: str, process: int | Literal["self"] = "self") -> float | None:
    """A figure of a process's status on Linux in MB, such as VmRSS; None where there is none."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith(f"{field}:")), None)
    return int(found) * 1024 / 1e6 if found else None


def peak_since() -> int:
    """Bytes that were resident at the most since the last call; on Linux only, 0 elsewhere."""
    peak = status_mb("VmHWM")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    return round((peak or 0.0) * 1e6)


def trim() -> None:
    """Give freed memory back to the system, where the C library keeps it for later (glibc)."""
    release = getattr(_c_library(), "malloc_trim", None)
    if release is not None:
        release(0)


@cache
def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no such thing
        return None

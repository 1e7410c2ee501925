"""Amounts of memory as people write them: 500MB, 8GiB."""

import re

from a2edit.runtime.errors import RequestError

_UNITS: dict[str, int] = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", 1)},
}


def parse_size(text: str) -> int:
    """Bytes of "500MB", "8GiB", "1.5 GB" or "4096": powers of 1000, with an i of 1024.

    Raises RequestError for what is no size above 0.
    """
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    unit = _UNITS.get(found[2].lower()) if found else None
    size: int = round(float(found[1]) * unit) if found and unit else 0
    if size < 1:
        raise RequestError(f"{text!r} is no size: give bytes, or a number with MB, MiB, GB or GiB")
    return size


def format_size(size: int) -> str:
    """Bytes for people, in powers of 1024: 22020096 is "21.0 MiB"."""
    number, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number, units = number / 1024, units[1:]
    return f"{number:.1f} {units[0]}" if units[0] != "B" else f"{size} B"

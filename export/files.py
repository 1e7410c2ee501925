"""Files between steps: JSON that the same value always writes alike, and links."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_bytes())


def write_json(path: Path, value: Any) -> None:
    """Keys sorted; NaN and infinity are refused."""
    path.write_text(json.dumps(value, sort_keys=True, allow_nan=False), encoding="utf-8")


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system has them; the bytes are never changed in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)

"""A²-Edit with per-route engines: paint the object of a reference picture into a rough mask.

The names below are the whole public interface for running a bundle; they load on first use, so that
``import a2edit`` costs nothing and never pulls in torch. The folders of the repository are
``a2edit.model``, ``.training``, ``.calibration``, ``.export``, ``.runtime``, ``.kernels`` and
``.bench`` (docs/decisions/0001-import-package.md says why).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from a2edit.runtime.editor import Editor
    from a2edit.runtime.errors import A2EditError
    from a2edit.runtime.request import EditRequest, EditResult
    from a2edit.runtime.step_cache import FirstBlockCache

__version__ = "0.1.0"
__all__ = ["A2EditError", "EditRequest", "EditResult", "Editor", "FirstBlockCache", "__version__"]

_HOMES = {
    "A2EditError": "a2edit.runtime.errors",
    "EditRequest": "a2edit.runtime.request",
    "EditResult": "a2edit.runtime.request",
    "Editor": "a2edit.runtime.editor",
    "FirstBlockCache": "a2edit.runtime.step_cache",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home the first time it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

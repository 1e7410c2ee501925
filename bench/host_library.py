"""The C++ host by its C ABI, through ctypes, to compare hosts; programs in Python take `Editor`."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_size_t, c_uint8, c_uint64
from ctypes import c_void_p as handle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.boxes import Box
from a2edit.runtime.errors import A2EditError, EngineError
from a2edit.runtime.images import ImageSource
from a2edit.runtime.request import EditRequest

_ROLES = ("image", "reference", "mask", "reference_mask")  # in the order of a2edit_role


class _Picture(ctypes.Structure):
    """a2edit_picture"""

    _fields_ = (
        ("struct_size", c_size_t),
        ("path", c_char_p),
        ("pixels", handle),
        ("width", c_int32),
        ("height", c_int32),
        ("channels", c_int32),
        ("stride", c_size_t),
    )


class _Timing(ctypes.Structure):
    """a2edit_timing"""

    _fields_ = (("stage", c_char_p), ("seconds", c_double))


class _Outcome(ctypes.Structure):
    """a2edit_outcome"""

    _fields_ = (
        ("struct_size", c_size_t),
        ("pixels", POINTER(c_uint8)),
        ("width", c_int32),
        ("height", c_int32),
        ("channels", c_int32),
        ("icc", POINTER(c_uint8)),
        ("icc_size", c_size_t),
        ("route", c_char_p),
        ("supply", c_char_p),
        ("predicted_error", c_double),
        ("seed", c_uint64),
        ("steps", c_int32),
        ("window", c_int32 * 4),
        ("gate_weights", POINTER(c_float)),
        ("route_table", POINTER(c_float)),
        ("blocks", c_int32),
        ("experts", c_int32),
        ("bundle_hash", c_char_p),
        ("warnings", POINTER(c_char_p)),
        ("warning_count", c_int32),
        ("timings", POINTER(_Timing)),
        ("timing_count", c_int32),
    )


@dataclass(frozen=True, slots=True, eq=False)
class HostResult:
    """What came of an edit: fields as those of `EditResult`."""

    image: NDArray[np.uint8]  # [H, W, 3 or 4]
    route: str
    supply: str
    predicted_error: float
    gate_weights: NDArray[np.float32]  # [L, N]
    window: Box
    warnings: tuple[str, ...]
    timings: dict[str, float]  # seconds


class HostEditor:
    """One a2edit_editor of a library; raises A2EditError with what the library says."""

    def __init__(self, library: Path, bundle: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.a2edit_error_get_message.restype = c_char_p
        self._editor = handle()
        self._call("editor_open", str(bundle).encode(), None, byref(self._editor))

    def load(self) -> None:
        """Open every engine now."""
        self._call("editor_load", self._editor)

    def edit(self, request: EditRequest) -> HostResult:
        asked, result = handle(), handle()
        self._call("request_create", byref(asked))
        try:
            self._fill(asked, request)
            self._call("editor_edit", self._editor, asked, None, None, byref(result))
        finally:
            self._library.a2edit_request_free(asked)
        try:
            outcome = _Outcome(ctypes.sizeof(_Outcome))
            self._call("result_get", result, byref(outcome))
            return _copied(outcome)
        finally:
            self._library.a2edit_result_free(result)

    def close(self) -> None:
        self._library.a2edit_editor_close(self._editor)
        self._editor = handle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill(self, asked: handle, request: EditRequest) -> None:
        for role, name in enumerate(_ROLES):
            source: ImageSource | None = getattr(request, name)
            if source is not None:
                picture, kept = _picture(source)
                self._call("request_set_picture", asked, role, byref(picture))
                del kept
        for box in request.boxes:
            corners = Box.of(box)
            sides = (corners.x0, corners.y0, corners.x1, corners.y1)
            self._call("request_add_box", asked, *map(c_int32, sides))
        self._call("request_set_prompt", asked, request.prompt.encode())
        self._call("request_set_steps", asked, c_int32(request.steps or 0))
        self._call("request_set_seed", asked, c_uint64(request.seed))
        self._call("request_set_size", asked, c_int32(request.size or 0))
        self._call("request_set_resize_mask", asked, c_int32(request.resize_mask))

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, f"a2edit_{name}")
        function.restype = handle
        error = function(*arguments)
        if error:
            message = self._library.a2edit_error_get_message(handle(error)).decode()
            self._library.a2edit_error_free(handle(error))
            raise HostError(message)


class HostError(A2EditError):
    """What the library refused, in its words."""


def _picture(source: ImageSource) -> tuple[_Picture, object]:
    """A picture, and what it points into."""
    picture = _Picture(ctypes.sizeof(_Picture))
    if isinstance(source, str | Path):
        picture.path = str(source).encode()
        return picture, picture.path
    pixels = np.ascontiguousarray(np.asarray(source))
    if pixels.dtype != np.uint8:
        raise EngineError(f"the C++ host takes pictures of uint8, and not of {pixels.dtype}")
    picture.pixels = pixels.ctypes.data
    picture.height, picture.width = pixels.shape[:2]
    picture.channels = pixels.shape[2] if pixels.ndim == 3 else 1
    return picture, pixels


def _copied(outcome: _Outcome) -> HostResult:
    shape = outcome.height, outcome.width, outcome.channels
    table = outcome.blocks, outcome.experts
    timings = outcome.timings[: outcome.timing_count]
    return HostResult(
        image=np.ctypeslib.as_array(outcome.pixels, shape).copy(),
        route=outcome.route.decode(),
        supply=outcome.supply.decode(),
        predicted_error=outcome.predicted_error,
        gate_weights=np.ctypeslib.as_array(outcome.gate_weights, table).copy(),
        window=Box(*outcome.window),
        warnings=tuple(text.decode() for text in outcome.warnings[: outcome.warning_count]),
        timings={timing.stage.decode(): timing.seconds for timing in timings},
    )

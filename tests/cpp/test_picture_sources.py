"""How a picture is given to the C ABI: one of a path, pixels and a file's bytes."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REQUEST = 1  # A2EDIT_REQUEST
IMAGE, MASK = 0, 2


class Given(ctypes.Structure):
    """a2edit_picture."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("path", ctypes.c_char_p),
        ("pixels", ctypes.c_char_p),
        ("width", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("stride", ctypes.c_size_t),
        ("bytes", ctypes.c_char_p),
        ("byte_count", ctypes.c_size_t),
    )


PIXELS = {"pixels": bytes(12), "width": 2, "height": 2, "channels": 3}
FILE = {"bytes": b"no picture", "byte_count": 10}


@pytest.fixture
def request_of(cpp_build: Path) -> Iterator[Any]:
    """Gives a picture to a request: the kind of error and its message; 0 where there is none."""
    library = ctypes.CDLL(str(cpp_build / "liba2edit.so"))
    pointer = ctypes.c_void_p
    for name in ("a2edit_request_create", "a2edit_request_set_picture"):
        getattr(library, name).restype = pointer
    library.a2edit_error_get_message.restype = ctypes.c_char_p
    handle = pointer()
    assert library.a2edit_request_create(ctypes.byref(handle)) is None

    def give(role: int, size: int = ctypes.sizeof(Given), **fields: Any) -> tuple[int, str]:
        picture = Given(struct_size=size, **fields)
        error = library.a2edit_request_set_picture(handle, role, ctypes.byref(picture))
        if error is None:
            return 0, ""
        message = library.a2edit_error_get_message(pointer(error)).decode()
        kind = library.a2edit_error_get_kind(pointer(error))
        library.a2edit_error_free(pointer(error))
        return kind, message

    yield give
    library.a2edit_request_free(handle)


@pytest.mark.parametrize("fields", [{"path": b"scene.png"}, PIXELS, FILE])
def test_one_source_is_taken(request_of: Any, fields: dict[str, Any]) -> None:
    assert request_of(IMAGE, **fields) == (0, "")
    assert request_of(MASK, **fields) == (0, "")


@pytest.mark.parametrize(
    "fields", [{}, {**PIXELS, **FILE}, {"path": b"scene.png", **FILE}, {"path": b"a", **PIXELS}]
)
def test_none_and_several_are_refused(request_of: Any, fields: dict[str, Any]) -> None:
    said = "the mask needs one of a path, pixels and a file's bytes, and no more than one"
    assert request_of(MASK, **fields) == (REQUEST, said)


def test_a_program_of_before_goes_on(request_of: Any) -> None:
    """Its struct ends where bytes begin now: what lies behind it is not looked at."""
    assert request_of(IMAGE, Given.bytes.offset, **PIXELS, **FILE) == (0, "")
    kind, said = request_of(IMAGE, Given.bytes.offset, **FILE)
    assert kind == REQUEST
    assert "the image needs one of" in said

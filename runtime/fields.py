"""JSON to dataclasses: each value as its field is annotated, and nothing that no field is for."""

import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from a2edit.runtime.errors import BundleError

T = TypeVar("T")


def built(kind: type[T], value: Any, where: str = "") -> T:
    """One dataclass from one JSON object, which is `where` in messages.

    Raises:
        BundleError: keys are unknown or missing, or a value is of another type than its field.
    """
    content = _object(value, where)
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(content.keys() - fields.keys()):
        raise BundleError(f"{where or 'the manifest'} has unknown keys: {', '.join(unknown)}")
    needed = {
        name
        for name, item in fields.items()
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    }
    if missing := sorted(needed - content.keys()):
        raise BundleError(f"{where or 'the manifest'} lacks {', '.join(missing)}")
    return kind(
        **{
            key: _read(fields[key].type, item, f"{where}.{key}" if where else key)
            for key, item in content.items()
        }
    )


def _read(kind: Any, value: Any, where: str) -> Any:
    """A JSON value as the type that a field is annotated with."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return built(kind, value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (dict, Mapping):
        items = _object(value, where).items()
        return {name: _read(inner[1], item, f"{where}.{name}") for name, item in items}
    if origin is tuple:
        if not isinstance(value, list):
            raise BundleError(f"{where} is {value!r}: it must be a list")
        return tuple(_read(inner[0], item, where) for item in value)
    if origin is UnionType:  # something, or None
        return _read(inner[0], value, where) if value else None
    if kind is Any:
        return value
    allowed, name = _PLAIN.get(kind, _PLAIN[str])  # a Literal is a text
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, allowed):
        raise BundleError(f"{where} is {value!r}: it must be {name}")
    return value


_PLAIN: dict[Any, tuple[Any, str]] = {
    str: (str, "text"),
    int: (int, "a whole number"),
    float: (int | float, "a number"),
    bool: (bool, "true or false"),
}


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BundleError(f"{where} must be an object, got {type(value).__name__}")
    return value

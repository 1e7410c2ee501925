"""Copies of host arrays on a device, each kept for as long as its array lives."""

import logging
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

from a2edit.runtime.engines.base import Array
from a2edit.runtime.errors import DeviceMemoryError

Copy = TypeVar("Copy")

log = logging.getLogger(__name__)


class DeviceCopies(Generic[Copy]):
    """Weight sets that stay in memory are uploaded once: going back to one moves no bytes.

    Where a device has no room for another set, those that are not asked for leave it.

    Args:
        upload: copies an array to the device; the copy's memory is freed with the object that it
            returns. Raises DeviceMemoryError where it does not fit.
    """

    def __init__(self, upload: Callable[[Array], Copy]) -> None:
        self._upload = upload
        self._held: dict[int, tuple[weakref.ref[Array], Copy]] = {}

    def of(self, tensors: Mapping[str, Array]) -> dict[str, Copy]:
        """Copies of arrays that nobody changes, by name; made at the first call."""
        try:
            return {name: self._copy(array) for name, array in tensors.items()}
        except DeviceMemoryError:
            if not self._forget_others(tensors.values()):
                raise
        return {name: self._copy(array) for name, array in tensors.items()}

    def clear(self) -> None:
        self._held.clear()

    def _copy(self, array: Array) -> Copy:
        key = id(array)
        held = self._held.get(key)
        # another array may have the address of one that is gone
        if held is None or held[0]() is not array:
            gone = weakref.ref(array, lambda dead: self._forget(key, dead))
            self._held[key] = held = (gone, self._upload(array))
        return held[1]

    def _forget(self, key: int, dead: "weakref.ref[Array]") -> None:
        if key in self._held and self._held[key][0] is dead:
            del self._held[key]

    def _forget_others(self, arrays: Collection[Array]) -> int:
        """Drop every copy but those of `arrays`; returns how many there were."""
        kept = {id(array) for array in arrays}
        others = [key for key in self._held if key not in kept]
        for key in others:
            del self._held[key]
        if others:
            log.info("the device is full: %d tensors of other weight sets left it", len(others))
        return len(others)

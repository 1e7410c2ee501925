"""Weight sets on a device of little memory: uploaded once, gone with their arrays."""

import numpy as np
import pytest

from a2edit.runtime.engines.base import Array
from a2edit.runtime.engines.copies import DeviceCopies
from a2edit.runtime.errors import DeviceMemoryError


class Device:
    """Counts bytes: a copy takes them until it is dropped."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.uploads = 0

    def upload(self, array: Array) -> "Copy":
        if array.nbytes > self.room:
            raise DeviceMemoryError("full")
        self.room -= array.nbytes
        self.uploads += 1
        return Copy(self, array)


class Copy:
    def __init__(self, device: Device, array: Array) -> None:
        self.device, self.value, self.nbytes = device, array.copy(), array.nbytes

    def __del__(self) -> None:
        self.device.room += self.nbytes


def weight_set(value: float) -> dict[str, Array]:
    return {name: np.full(8, value, np.float32) for name in ("a", "b")}


def test_going_back_to_a_set_moves_no_bytes() -> None:
    device = Device(room=1000)
    copies = DeviceCopies(device.upload)
    one, two = weight_set(1), weight_set(2)
    first = copies.of(one)
    assert copies.of(two)["a"].value[0] == 2
    again = copies.of(one)
    assert all(again[name] is first[name] for name in one)
    assert device.uploads == 4


def test_a_set_that_is_gone_takes_no_memory() -> None:
    device = Device(room=1000)
    copies = DeviceCopies(device.upload)
    one, two = weight_set(1), weight_set(2)
    copies.of(one)
    copies.of(two)
    assert device.room == 1000 - 128
    del one
    assert device.room == 1000 - 64
    copies.clear()
    assert device.room == 1000


def test_sets_that_follow_each_other_at_one_address_are_not_mixed_up() -> None:
    device = Device(room=1000)
    copies = DeviceCopies(device.upload)
    for value in range(50):
        assert copies.of(weight_set(value))["b"].value[0] == value
    assert device.room == 1000


def test_a_full_device_lets_go_of_the_other_sets() -> None:
    device = Device(room=100)
    copies = DeviceCopies(device.upload)
    one, two = weight_set(1), weight_set(2)
    copies.of(one)
    assert copies.of(two)["a"].value[0] == 2
    assert device.room == 36
    assert copies.of(one)["a"].value[0] == 1
    assert device.uploads >= 6


def test_a_set_that_never_fits_is_refused() -> None:
    device = Device(room=50)
    copies = DeviceCopies(device.upload)
    with pytest.raises(DeviceMemoryError, match="full"):
        copies.of(weight_set(1))

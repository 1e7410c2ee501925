"""Boxes in pixels: x to the right, y down, half open (x1 and y1 are the first pixels outside)."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.errors import RequestError


@dataclass(frozen=True, slots=True)
class Box:
    """x0 <= x < x1, y0 <= y < y1; never empty, but it may reach outside of a picture."""

    x0: int
    y0: int
    x1: int
    y1: int

    def __post_init__(self) -> None:
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise RequestError(
                f"box {self} is empty: give x0,y0,x1,y1 in pixels with x1 > x0 and y1 > y0"
            )

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array; only for boxes inside of it."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def __str__(self) -> str:
        return f"{self.x0},{self.y0},{self.x1},{self.y1}"

    def inside(self, width: int, height: int) -> bool:
        return self.x0 >= 0 and self.y0 >= 0 and self.x1 <= width and self.y1 <= height

    def clipped(self, width: int, height: int) -> "Box":
        """The part inside a picture; raises RequestError where there is none."""
        return Box(max(self.x0, 0), max(self.y0, 0), min(self.x1, width), min(self.y1, height))

    def grown(self, margin: int) -> "Box":
        return Box(self.x0 - margin, self.y0 - margin, self.x1 + margin, self.y1 + margin)

    @classmethod
    def parse(cls, text: str) -> "Box":
        """Read "x0,y0,x1,y1" as the command line gives it."""
        try:
            x0, y0, x1, y1 = (int(part) for part in text.split(","))
        except ValueError:
            raise RequestError(
                f"box {text!r} is not x0,y0,x1,y1: give four whole numbers in pixels, "
                "such as 40,30,200,180"
            ) from None
        return cls(x0, y0, x1, y1)

    @classmethod
    def of(cls, value: "Box | str | Sequence[int]") -> "Box":
        """A box from a Box, "x0,y0,x1,y1", or four whole numbers."""
        if isinstance(value, Box):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        try:
            x0, y0, x1, y1 = (operator.index(number) for number in value)
        except (TypeError, ValueError):
            raise RequestError(
                f"box {value!r} is not four whole numbers x0, y0, x1, y1 in pixels"
            ) from None
        return cls(x0, y0, x1, y1)


def tight_box(mask: NDArray[np.uint8]) -> Box:
    """The smallest box around the pixels >= 128 of a u8 [H, W] mask."""
    on = mask >= 128
    rows, columns = np.flatnonzero(on.any(axis=1)), np.flatnonzero(on.any(axis=0))
    if rows.size == 0:
        raise RequestError("the mask is empty: paint the region to replace white (>= 128 of 255)")
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)

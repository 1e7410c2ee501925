"""A side that is always right."""

from collections.abc import Callable

import numpy as np
import pytest

from a2edit.bench.quality.sides import Painted
from a2edit.bench.quality.subject import Task


@pytest.fixture(scope="session")
def truth() -> Callable[[Task], Painted]:
    """The right answer inside of the region: what the metrics say of perfection."""

    def paint(task: Task) -> Painted:
        picture, region = np.asarray(task.subject.scene).copy(), task.region >= 128
        picture[region] = np.asarray(task.subject.truth)[region]
        return Painted(task, picture)

    return paint

"""What holds for every test."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from a2edit.runtime.engines.base import Array
from a2edit.runtime.engines.cuda import capability
from a2edit.runtime.errors import A2EditError

# a busy machine is no failure
settings.register_profile("patient", deadline=None, max_examples=60)
settings.load_profile("patient")


# Folders whose tests share a bundle, a model or a compiled host that is made once: they stay
# together where tests run in several processes.
TOGETHER = ("acceptance", "cpp", "export", "model", "runtime", "training")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests share a process, and skip those that need a GPU where there is none."""
    for item in items:
        place = item.path.relative_to(Path(__file__).parent)
        group = place.parts[0] if place.parts[0] in TOGETHER else str(place)
        item.add_marker(pytest.mark.xdist_group(group))
    _skip_gpu_tests(items)


def _skip_gpu_tests(items: list[pytest.Item]) -> None:
    """Tests marked `gpu`, each by its name."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    try:
        capability()
    except A2EditError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"{item.name}: {error}"))


@pytest.fixture
def picture() -> Array:
    """Coloured tiles, u8 [96, 120, 3]."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 15, 3)).astype(np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


@pytest.fixture
def region() -> Array:
    """A mask within it: 255 in rows 30 to 60, columns 40 to 80."""
    mask = np.zeros((96, 120), np.uint8)
    mask[30:60, 40:80] = 255
    return mask

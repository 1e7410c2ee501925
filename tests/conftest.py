"""What holds for every test."""

import pytest
from hypothesis import settings

from a2edit.runtime.engines.cuda import capability
from a2edit.runtime.errors import A2EditError

# a busy machine is no failure
settings.register_profile("patient", deadline=None, max_examples=60)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped, each by its name, where there is no GPU to run on."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    try:
        capability()
    except A2EditError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"{item.name}: {error}"))

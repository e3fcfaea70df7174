from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.recount import differences
from tests.store.world import World, new_world


@pytest.fixture
def uncounted(tmp_path: Path, migrated: Path) -> Iterator[World]:
    """A world for what a recount can't follow: forgotten mail, a damaged file."""
    world = new_world(tmp_path, migrated)
    yield world
    world.close()


@pytest.fixture
def world(uncounted: World) -> Iterator[World]:
    """A world whose counters must equal a recount at the end of the test."""
    yield uncounted
    uncounted.close()
    assert differences(uncounted.path) == []

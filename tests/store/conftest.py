from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailer.store.migrate import migrate
from tests.store.recount import differences
from tests.store.world import World, new_world


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "mailer.db"
    migrate(path)
    return path


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

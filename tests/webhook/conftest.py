from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailer.store.migrate import migrate
from tests.store.world import World, new_world
from tests.webhook.desk import Desk
from tests.webhook.receiver import Receiver


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "mailer.db"
    migrate(path)
    return path


@pytest.fixture
def world(tmp_path: Path, migrated: Path) -> Iterator[World]:
    made = new_world(tmp_path, migrated)
    yield made
    made.close()


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.world import World, new_world
from tests.webhook.desk import Desk
from tests.webhook.receiver import Receiver


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

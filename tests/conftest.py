from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailer.store.migrate import migrate
from tests.installation import Installation

# A shell that runs the tests in the background has them ignore Ctrl-C, and so all they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "mailer.db"
    migrate(path)
    return path


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A directory of its own; whatever a test starts in it has ended afterwards."""
    made = Installation(tmp_path)
    yield made
    made.stop()

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A directory of its own; whatever a test starts in it has ended afterwards."""
    made = Installation(tmp_path)
    yield made
    made.stop()

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.memory import Post


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    post = Post(tmp_path / "mailer.db")
    yield post
    post.world.close()

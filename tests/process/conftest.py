from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.harness import Mailer, Sink


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Mailer]]:
    """Start an installation with these settings; ended with the test, however that ends."""
    started: list[Mailer] = []

    def run(*, name: str = "one", **settings: Any) -> Mailer:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        started.append(Mailer(directory, **settings))
        return started[-1]

    yield run
    for mailer in started:
        mailer.end()


@pytest.fixture
def smtp_sink(tmp_path: Path) -> Iterator[Sink]:
    server = Sink(tmp_path)
    yield server
    server.stop()

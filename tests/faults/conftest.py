"""What fault tests start, and how often they try."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests import counts
from tests.faults.mailer_run import MailerRun
from tests.smtp_sink import SmtpSink
from tests.weakened import Protection


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked `rounds(n)` is run for `round_` in range(n), or a tenth of that."""
    for mark in metafunc.definition.iter_markers("rounds"):
        metafunc.parametrize("round_", range(counts.often(mark.args[0])))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rounds(n): run so often, or a tenth of it by default")


@pytest.fixture
def often() -> Callable[[int], int]:
    """How many of the full count to do now."""
    return counts.often


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink


@pytest.fixture
def start(tmp_path: Path, sink: SmtpSink) -> Iterator[Callable[..., MailerRun]]:
    """Start `mailer` on a database; whatever still runs at the end of the test is killed."""
    runs: list[MailerRun] = []

    def start(
        database: Path,
        *command: str,
        under: Sequence[str] = (),
        without: Protection | None = None,
        **environ: str,
    ) -> MailerRun:
        place = (database, tmp_path, sink.port)
        run = MailerRun(*place, *command, environ=environ, under=under, without=without)
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.kill()

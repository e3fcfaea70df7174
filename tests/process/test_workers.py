"""Workers of plugins: kept alive, stopped in order, confined; and what they have of mailer."""

from __future__ import annotations

import os
import re
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mailer.confined import OUTPUT_BYTES
from tests.process.harness import CLOCK, GUESTS, Mailer, addresses
from tests.waiting import until

Start = Callable[..., Mailer]
NAME = "worker guest"


@pytest.fixture(scope="module")
def mailer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailer]:
    """One installation for all but those who end it."""
    directory = tmp_path_factory.mktemp("workers")
    started = Mailer(directory, plugins=[GUESTS], MAX_SEND_PER_SECOND="100", PLUGIN_MEMORY_MB="200")
    until(lambda: kept(started, "starts"))
    yield started
    started.assert_sound()
    started.end()


def kept(mailer: Mailer, key: str) -> str:
    """What the plugin has on its shelf under that key."""
    rows = mailer.rows("SELECT value FROM shelves WHERE plugin = 'guest' AND key = ?", key)
    return rows[0][0].decode() if rows else ""


def tell(mailer: Mailer, what: str) -> None:
    """Have the worker do this; a commit wakes it."""
    new = mailer.directory / "work.new"
    new.write_text(what)
    new.replace(mailer.directory / "work")
    mailer.accepted("a@example.com")


def test_of_what_it_prints_a_little_reaches_the_log(mailer: Mailer) -> None:
    before = mailer.log_path.stat().st_size
    tell(mailer, "print 100")
    until(lambda: not (mailer.directory / "work").exists(), within_s=20)
    until(lambda: "too much" in mailer.log)
    assert 50_000 < mailer.log_path.stat().st_size - before < 3 * OUTPUT_BYTES


def test_it_learns_events_and_is_woken_by_commits(mailer: Mailer) -> None:
    (mail,) = mailer.accepted("a@example.com")
    until(lambda: mailer.finished())
    tell(mailer, f"learn {mail}")
    until(lambda: mailer.states().get("delivered") == 1)


@pytest.mark.alone
def test_a_killed_worker_is_back_within_a_second(mailer: Mailer) -> None:
    pid = mailer.children()[NAME]
    starts = int(kept(mailer, "starts"))
    assert kept(mailer, f"start/{starts}") == str(pid)
    killed_us = CLOCK.mono_us()
    mailer.kill(pid)
    until(lambda: mailer.children().get(NAME, pid) != pid)
    assert CLOCK.mono_us() - killed_us < 1_000_000
    until(lambda: kept(mailer, "starts") == str(starts + 1))


@pytest.mark.parametrize("end", ["return", "raise a secret"])
def test_one_that_returns_or_raises_is_started_again(mailer: Mailer, end: str) -> None:
    starts = int(kept(mailer, "starts"))
    tell(mailer, end)
    until(lambda: int(kept(mailer, "starts")) > starts)
    (mailer.directory / "work").unlink()
    assert ("RuntimeError" in mailer.log) == end.startswith("raise")
    assert "secret" not in mailer.log


def test_one_that_eats_memory_is_stopped_and_sending_goes_on(mailer: Mailer) -> None:
    starts = int(kept(mailer, "starts"))
    tell(mailer, "eat 1000")
    until(lambda: int(kept(mailer, "starts")) >= starts + 2, within_s=20)
    mails = mailer.accepted(*addresses(100))
    until(lambda: set(mails) <= {call.request_id for call in mailer.hand_overs()}, within_s=10)
    (mailer.directory / "work").unlink()
    assert "MemoryError" in mailer.log
    assert not kept(mailer, "eaten")


def test_control_it_is_the_limit_that_stops_it(start: Start) -> None:
    mailer = start(plugins=[GUESTS], PLUGIN_MEMORY_MB="4000")
    until(lambda: kept(mailer, "starts"))
    tell(mailer, "eat 300")
    until(lambda: kept(mailer, "eaten") == "300")
    assert kept(mailer, "starts") == "1"


def test_it_ends_when_told_and_with_its_supervisor(start: Start) -> None:
    mailer = start(plugins=[GUESTS])
    until(lambda: kept(mailer, "starts"))
    assert mailer.stop() == 0
    assert re.search(r"worker guest \(pid \d+\) ended with status 0", mailer.log)
    mailer.restart()
    until(lambda: kept(mailer, "starts") == "2")
    with pidfd(mailer.children()[NAME]) as worker:
        mailer.process.send_signal(signal.SIGKILL)
        assert select.select([worker], [], [], 10) == ([worker], [], [])


@contextmanager
def pidfd(pid: int) -> Iterator[int]:
    """Can be read when the process has ended (pidfd_open(2))."""
    fd = os.pidfd_open(pid)
    yield fd
    os.close(fd)

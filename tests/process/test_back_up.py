"""Back-ups under load, and a restored one that sends nothing twice: real processes throughout."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from mailer.store.connection import lock_path
from mailer.store.verify import verify
from tests import weakened
from tests.counts import often
from tests.process.harness import Mailer, addresses, children_of
from tests.store.recount import differences
from tests.waiting import until
from tests.weakened import Protection

Start = Callable[..., Mailer]
WAITING = often(1_000)


def command(mailer: Mailer, *words: str) -> tuple[int, str]:
    """Run one of mailer's commands; exit status and what it says."""
    process = mailer.spawn(*words, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said.decode()


def test_back_ups_under_load_are_whole(start: Start, tmp_path: Path) -> None:
    mailer = start(MAX_SEND_PER_SECOND="unlimited")
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            mailer.accepted(*addresses(20), topic_id="news")

    thread = threading.Thread(target=load)
    thread.start()
    mails = []
    try:
        for number in range(often(30)):
            mailer.await_more(20)
            copy = tmp_path / f"{number}.db"
            status, said = command(mailer, "backup", str(copy), "--json")
            assert status == 0
            mails.append(json.loads(said)["rows"]["mails"])
            verify(copy, whole=True)
            assert differences(copy) == []
    finally:
        ended.set()
        thread.join()
    assert mails == sorted(set(mails)), "each holds more than the one before"


def post_while_it_stands_still(
    mailer: Mailer, copy: Path, *, without: Protection | None = None, within_s: float
) -> bool:
    """Whether a post is answered while a back-up is stopped amid its copying; it goes on then."""
    stop = ("-e", "trace=pwrite64", "-e", "inject=pwrite64:signal=SIGSTOP:when=5")
    seen = copy.with_name("strace")
    strace = ("strace", "-f", "-o", str(seen), *stop)
    back_up = mailer.spawn("backup", str(copy), under=strace, without=without)
    until(lambda: seen.exists() and "stopped by SIGSTOP" in seen.read_text(), within_s=30)
    (pid,) = children_of(back_up.pid)
    post = threading.Thread(target=mailer.accepted, args=("meanwhile@example.org",))
    post.start()
    post.join(within_s)
    answered = not post.is_alive()
    os.kill(pid, signal.SIGCONT)
    assert back_up.wait(timeout=30) == 0
    post.join()
    return answered


def test_a_back_up_keeps_no_writer_waiting(start: Start, tmp_path: Path) -> None:
    mailer = start()
    copy = tmp_path / "copy.db"
    assert post_while_it_stands_still(mailer, copy, within_s=10)
    verify(copy, whole=True)


def test_one_that_held_the_lock_would(start: Start, tmp_path: Path) -> None:
    """The control."""
    copy = tmp_path / "copy.db"
    assert not post_while_it_stands_still(start(), copy, without=weakened.free_writers, within_s=1)


def sent_since_the_back_up(mailer: Mailer, tmp_path: Path) -> Path:
    """A back-up with mail waiting in it, all of which is sent afterwards."""
    mailer.accepted("first@example.org", topic_id="news")
    until(mailer.finished)
    mailer.post("/v1/topics/news/pause", {})
    mailer.accepted(*addresses(WAITING), topic_id="news")
    copy = tmp_path / "copy.db"
    assert command(mailer, "backup", str(copy))[0] == 0
    mailer.post("/v1/topics/news/resume", {})
    until(mailer.finished, within_s=60)
    assert len(mailer.hand_overs()) == WAITING + 1
    return copy


@pytest.fixture
def mailer(start: Start) -> Mailer:
    return start(MAX_SEND_PER_SECOND="unlimited")


def test_a_restored_back_up_sends_nothing_until_it_is_released(
    mailer: Mailer, tmp_path: Path
) -> None:
    copy = sent_since_the_back_up(mailer, tmp_path)
    status, _ = command(mailer, "restore", str(copy))
    assert status != 0, "mailer is running"
    mailer.stop()
    status, said = command(mailer, "restore", str(copy))
    assert (status, "held" in said) == (0, True)
    mailer.restart()
    mailer.post("/v1/topics/news/resume", {})
    (new,) = mailer.accepted("new@example.org")
    status, said = command(mailer, "release")
    assert status == 1
    assert f"{WAITING + 1:,} mails would go out" in said
    assert len(mailer.hand_overs()) == WAITING + 1
    assert "held" in command(mailer, "status")[1]

    assert mailer.request("DELETE", "/v1/topics/news").status == 200
    assert command(mailer, "release", "--yes")[0] == 0
    until(mailer.finished)
    assert [call.request_id for call in mailer.hand_overs()[WAITING + 1 :]] == [new]
    mailer.assert_sound()


def test_without_the_hold_it_would_be_sent_again(mailer: Mailer, tmp_path: Path) -> None:
    """The control: a back-up that was copied into place by hand."""
    copy = sent_since_the_back_up(mailer, tmp_path)
    mailer.stop()
    for part in ("-wal", "-shm"):
        mailer.database.with_name(mailer.database.name + part).unlink(missing_ok=True)
    shutil.copyfile(copy, mailer.database)
    lock_path(mailer.database).unlink()
    mailer.restart()
    mailer.post("/v1/topics/news/resume", {})
    until(mailer.finished, within_s=60)
    assert len(mailer.hand_overs()) == 2 * WAITING + 1

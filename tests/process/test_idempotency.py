"""One key, one batch: asked at the same moment, or again after the process died with the answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.api.service import Answer
from tests.counts import FULL
from tests.process.harness import Mailer, addresses
from tests.waiting import until

Start = Callable[..., Mailer]

AT_ONCE = 50
KEY = {"Idempotency-Key": "order-66"}


def body(*emails: str) -> bytes:
    message = {"emails": emails, "subject": "Hello", "content": "<p>Hello"}
    return json.dumps({"messages": [message]}).encode()


def batches(mailer: Mailer) -> int:
    ((found,),) = mailer.rows("SELECT count(*) FROM batches")
    return int(found)


@pytest.mark.parametrize("mails", [1, 1000])
def test_fifty_at_once_make_one_batch(start: Start, mails: int) -> None:
    mailer = start(API_WORKERS="2", MAX_SEND_PER_SECOND="unlimited")
    for n in range(10 if FULL else 2):
        key = {"Idempotency-Key": f"{n}"}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = [
                pool.submit(mailer.post, "/v1/messages", body(*addresses(mails)), key)
                for _ in range(AT_ONCE)
            ]
            answers: list[Answer] = [one.result() for one in asked]
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        replayed = [answer.headers["Idempotency-Replayed"] for answer in answers]
        assert replayed.count("true") == AT_ONCE - 1
        assert batches(mailer) == n + 1
        other = mailer.post("/v1/messages", body("other@example.com"), key)
        assert other.status == 409
    until(mailer.finished, within_s=30)
    assert len(mailer.hand_overs()) == batches(mailer) * mails


def test_control_without_a_key_each_makes_its_own(start: Start) -> None:
    mailer = start(API_WORKERS="2")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: mailer.post("/v1/messages", body("a@example.com")), range(AT_ONCE)))
    assert batches(mailer) == AT_ONCE


@contextmanager
def watched(pid: int, syscalls: str, injection: str) -> Iterator[None]:
    """Strace on a process and all its threads, doing that at these calls."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={syscalls}"]
    strace = subprocess.Popen([*command, "-e", f"inject={syscalls}:{injection}"])
    threads = Path(f"/proc/{pid}/task")
    try:
        until(lambda: all(_is_traced(thread) for thread in threads.iterdir()))
        yield
    finally:
        strace.kill()
        strace.wait()


def _is_traced(thread: Path) -> bool:
    return "TracerPid:\t0\n" not in (thread / "status").read_text()


def ask(mailer: Mailer, key: str) -> Answer | None:
    """Post one mail under a key; None when the process died with the answer."""
    try:
        return mailer.post("/v1/messages", body("one@example.com"), {"Idempotency-Key": key})
    except (OSError, HTTPException):
        return None


def ask_again(mailer: Mailer, key: str) -> Answer:
    """Until there is an answer."""
    answer = until(lambda: ask(mailer, key))
    assert answer is not None
    return answer


def test_an_answer_lost_with_its_process_is_given_by_the_next(start: Start) -> None:
    """The worker is held up when it gives the lock back after the commit, and killed there."""
    mailer = start(command="serve", API_WORKERS="1")
    (worker,) = mailer.workers()
    with ThreadPoolExecutor(1) as pool:
        with watched(worker, "flock", "delay_enter=5000000:when=2"):
            lost = pool.submit(ask, mailer, "lost")
            until(lambda: batches(mailer) == 1, within_s=4)
            mailer.kill(worker)
        assert lost.result() is None
    answer = ask_again(mailer, "lost")
    assert answer.status == 200
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert batches(mailer) == 1
    assert mailer.get(f"/v1/batches/{answer.json['batch_id']}").json["total"] == 1


@pytest.mark.timeout(900)
def test_killed_at_any_write_to_the_disk_a_request_is_stored_once(start: Start) -> None:
    mailer = start(command="serve", API_WORKERS="1")
    replayed = []
    for number in range(1, 50) if FULL else (1, 3, 10, 20):
        key = f"write {number}"
        (worker,) = until(mailer.workers)
        with watched(worker, "pwrite64", f"signal=SIGKILL:when={number}"):
            answer = ask(mailer, key)
        if answer is None:
            answer = ask_again(mailer, key)
            replayed.append(answer.headers["Idempotency-Replayed"] == "true")
        assert answer.status == 200
        ((found,),) = mailer.rows("SELECT count(*) FROM idempotency WHERE key = ?", key)
        assert found == 1
    print(f"\nkilled {len(replayed)} times, of which the batch was stored {sum(replayed)} times")
    assert batches(mailer) == mailer.rows("SELECT count(*) FROM idempotency")[0][0]
    assert False in replayed
    mailer.assert_sound()

"""What goes wrong around the API: full disks, locks, killed workers, shutdowns. Nothing is lost."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from shutil import copyfile

import pytest

from mailer.store import connection
from mailer.store.connection import lock_path
from mailer.store.verify import verify
from tests.api.service import Service
from tests.waiting import until

MIB = 1024 * 1024
EMAILS = [f"user{n}@example.com" for n in range(5_000)]


def test_a_nearly_full_disk_is_503_and_recovers_by_itself(serve: Callable[..., Service]) -> None:
    service = serve(disk_bytes=16 * MIB)
    answers = [service.send("a@example.com", topic_id="t")]

    def answered(status: int) -> bool:
        answers.append(service.send("b@example.com", topic_id="t"))
        return answers[-1].status == status

    filler = service.disk / "filler"
    filler.write_bytes(b"x" * 12 * MIB)
    until(lambda: answered(503))
    assert int(answers[-1].headers["Retry-After"]) > 0
    filler.unlink()
    until(lambda: answered(200))

    accepted = [answer for answer in answers if answer.status == 200]
    assert service.get("/v1/topics/t").json["total"] == len(accepted)


def test_a_disk_that_fills_up_within_a_batch_stores_none_of_it(
    serve: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> None:
    service = serve(disk_bytes=16 * MIB)
    statuses = []
    while 503 not in statuses:
        statuses.append(service.send(*EMAILS, topic_id="t").status)
        room = os.statvfs(service.disk)
        spare = room.f_bavail * room.f_frsize - 5 * MIB
        if spare > 0:  # less room than a batch needs, and more than makes it turned away at once
            with (service.disk / "filler").open("ab") as filler:
                filler.write(b"x" * spare)

    assert service.get("/ready").status == 200
    assert service.get("/v1/topics/t").json["total"] == len(EMAILS) * statuses.count(200)
    (service.disk / "filler").unlink()
    until(lambda: service.send("a@example.com", topic_id="t").status == 200)
    assert set(statuses) == {200, 503}
    copies = tmp_path_factory.mktemp("copies")
    for file in service.disk.glob("mailer.db*"):
        if file.is_file():
            copyfile(file, copies / file.name)
    verify(copies / "mailer.db", whole=True)


def test_a_foreign_lock_is_503_in_time_and_hinders_no_reading(
    serve: Callable[..., Service],
) -> None:
    service = serve()
    service.send("a@example.com", topic_id="t")
    with _locked_by_another_tool(service):
        began = time.monotonic()
        with ThreadPoolExecutor(10) as threads:
            refused = list(threads.map(lambda _: service.send("b@example.com"), range(10)))

            assert time.monotonic() - began < 20
        assert {answer.status for answer in refused} == {503}
        assert {answer.headers["Retry-After"] for answer in refused} == {"5"}
        assert service.get("/v1/topics/t").status == 200
        assert service.get("/ready").status == 200

    assert service.send("c@example.com").status == 200
    assert len(service.get("/v1/mails").json["mails"]) == 2


def test_a_stuck_writer_elsewhere_is_503_and_what_was_given_up_is_not_stored(
    serve: Callable[..., Service],
) -> None:
    service = serve()
    with _write_lock_held(service):
        refused = service.send("late@example.com", topic_id="late")
        assert refused.status == 503
        assert service.get("/health").status == 200

    assert service.send("a@example.com", topic_id="after").status == 200
    assert service.get("/v1/topics/late").status == 404


def test_killed_workers_lose_nothing_and_a_key_repeats_nothing(
    serve: Callable[..., Service],
) -> None:
    service = serve(API_WORKERS="2")
    stop = threading.Event()
    killed = []

    def kill() -> None:
        while not stop.wait(0.3):
            with suppress(ProcessLookupError, IndexError):
                killed.append(service.workers()[0])
                os.kill(killed[-1], signal.SIGKILL)

    def post(n: int) -> str:
        body = {
            "messages": [
                {"topic_id": "t", "emails": [f"u{n}@example.com"], "subject": "s", "content": "c"}
            ]
        }

        def accepted() -> str | None:
            with suppress(OSError, HTTPException):
                answer = service.post("/v1/messages", body, {"Idempotency-Key": f"key {n}"})
                if answer.status == 200:
                    batch_id: str = answer.json["batch_id"]
                    return batch_id
            return None

        return until(accepted, within_s=60) or ""

    killer = threading.Thread(target=kill)
    killer.start()
    with ThreadPoolExecutor(8) as threads:
        batches = set(threads.map(post, range(1_500)))
    stop.set()
    killer.join()
    until(lambda: _total(service, "t") is not None)

    assert len(set(killed)) > 3
    assert len(batches) == 1_500
    assert _total(service, "t") == 1_500


def test_sigterm_ends_within_ten_seconds_and_every_200_is_on_disk(
    serve: Callable[..., Service],
) -> None:
    service = serve(API_WORKERS="2")
    accepted: list[str] = []
    running = threading.Event()

    def post() -> None:
        with suppress(OSError, HTTPException):
            while True:
                answer = service.send("a@example.com")
                assert answer.status == 200
                accepted.append(answer.json["batch_id"])
                if len(accepted) > 50:
                    running.set()

    idle = service.socket()
    half = service.socket()
    half.sendall(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
        b"Content-Type: application/json\r\n\r\n{"
    )
    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert running.wait(30)
    began = time.monotonic()
    assert service.stop() == 0
    took_s = time.monotonic() - began
    for thread in threads:
        thread.join()
    idle.close()
    half.close()

    assert took_s < 10
    with closing(service.store()) as store:
        assert all(store.batches.get(batch_id) for batch_id in accepted)


def test_a_database_that_is_not_there_refuses_the_start(serve: Callable[..., Service]) -> None:
    service = serve()
    service.stop()
    for suffix in ("", "-wal", "-shm", "-lock"):
        service.database.with_name(f"mailer.db{suffix}").unlink(missing_ok=True)

    with suppress(AssertionError):
        service.restart()

    assert service.process.wait() == 1
    assert "mailer.db" in service.log.splitlines()[-1]
    assert not service.database.exists()


def test_a_database_without_a_schema_refuses_the_start_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "mailer.db").touch()

    with pytest.raises(AssertionError, match="run `mailer migrate` first"):
        Service(tmp_path)


def _total(service: Service, topic_id: str) -> int | None:
    with suppress(OSError, HTTPException):
        answer = service.get(f"/v1/topics/{topic_id}")
        return int(answer.json["total"]) if answer.status == 200 else None
    return None


@contextmanager
def _locked_by_another_tool(service: Service) -> Iterator[None]:
    """SQLite's own write lock, held by a program that knows nothing of ours."""
    with closing(connection.sqlite3.connect(service.database, isolation_level=None)) as tool:
        tool.execute("BEGIN IMMEDIATE")
        yield
        tool.execute("ROLLBACK")


@contextmanager
def _write_lock_held(service: Service) -> Iterator[None]:
    """Our own write lock, as held by a process that was stopped within a transaction."""
    with lock_path(service.database).open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""The writer: jobs that wait share a commit, fail alone, and are not run for who has given up."""

from __future__ import annotations

import asyncio
import fcntl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mailer.api.learner import Learner
from mailer.api.writer import JOBS_A_COMMIT, WAITING_JOBS, Writer
from mailer.clock import SystemClock
from mailer.errors import NotFound, StoreUnavailable
from mailer.hookspecs import ProviderEvent
from mailer.mail import Content, NewBatch, NewMessage, Recipient
from mailer.store import Store
from mailer.store.connection import lock_path, remembered_commits
from mailer.store.migrate import migrate
from mailer.store.outcomes import Rules
from mailer.vocabulary import EventType, SuppressionReason, UncertainPolicy
from mailer.wake import Bell, Ear


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "mailer.db"
    migrate(path)
    return path


def opened(database: Path) -> Store:
    return Store(database, Rules(10**9, 10**6, UncertainPolicy.RESEND))


def run(
    database: Path,
    story: Callable[[Writer], Awaitable[None]],
    *,
    wait_s: float = 10.0,
    before: Callable[[Store], None] = lambda store: None,
) -> None:
    """Tell a story to a writer that lives as long as it lasts."""

    async def whole() -> None:
        writer = Writer(lambda: opened(database), Bell(database), wait_s=wait_s, before=before)
        writer.open()
        try:
            await story(writer)
        finally:
            await asyncio.to_thread(writer.close)

    asyncio.run(whole())


def add(email: str) -> Callable[[Store], bool]:
    return lambda store: store.suppressions.add(
        email, scope="", reason=SuppressionReason.MANUAL, detail="", now_ms=1
    )


def stored(database: Path) -> list[str]:
    store = opened(database)
    found = store.suppressions.list(email=None, after=("", ""), limit=1000)
    store.close()
    return [entry.email for entry in found]


def test_jobs_that_wait_share_a_commit(database: Path) -> None:
    async def story(writer: Writer) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def first(store: Store) -> None:
            begun.set()
            assert go_on.wait(10)

        held = asyncio.create_task(writer.run(first))
        await asyncio.to_thread(begun.wait, 10)
        before = remembered_commits(database)
        waiting = [asyncio.create_task(writer.run(add(f"{n:03}@x.example"))) for n in range(100)]
        await asyncio.sleep(0)
        go_on.set()
        await held
        assert all(await asyncio.gather(*waiting))
        assert remembered_commits(database) == before + 2

    run(database, story)
    assert len(stored(database)) == 100


def test_jobs_that_come_while_another_process_writes_share_a_commit(database: Path) -> None:
    taken = threading.Event()

    async def story(writer: Writer) -> None:
        before = remembered_commits(database)
        with lock_path(database).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            first = asyncio.create_task(writer.run(add("first@x.example")))
            await asyncio.to_thread(taken.wait, 10)
            later = [asyncio.create_task(writer.run(add(f"{n}@x.example"))) for n in range(10)]
            await asyncio.sleep(0)
        assert all(await asyncio.gather(first, *later))
        assert remembered_commits(database) == before + 1

    run(database, story, before=lambda store: taken.set())


def test_a_job_that_fails_fails_alone_and_is_undone(database: Path) -> None:
    def fail(store: Store) -> None:
        add("undone@x.example")(store)
        raise NotFound("not there")

    async def story(writer: Writer) -> None:
        jobs = (writer.run(add("a@x.example")), writer.run(fail), writer.run(add("b@x.example")))
        first, failed, second = await asyncio.gather(*jobs, return_exceptions=True)
        assert (first, second) == (True, True)
        assert isinstance(failed, NotFound)

    run(database, story)
    assert stored(database) == ["a@x.example", "b@x.example"]


def test_mail_that_cannot_be_stored_fails_alone(database: Path) -> None:
    def accept(subject: str) -> Callable[[Store], None]:
        message = NewMessage(Content(subject), (Recipient("a@x.example"),))
        batch = NewBatch(subject.encode("utf-8", "replace").hex(), (message,), "maildir", 0, 0)
        return lambda store: store.batches.accept(batch, max_queued=10)

    async def story(writer: Writer) -> None:
        go_on = threading.Event()
        writer.post(lambda store: go_on.wait(10))
        together = [writer.accept(accept(subject)) for subject in ("one", "half \ud800", "two")]
        gathering = asyncio.gather(*together, return_exceptions=True)
        asyncio.get_running_loop().call_soon(go_on.set)
        first, broken, last = await gathering
        assert first is last is None
        assert isinstance(broken, UnicodeEncodeError)

    run(database, story)
    store = opened(database)
    assert store.batches.queued() == 2
    store.close()


def test_when_the_store_fails_every_job_of_the_commit_hears_it(database: Path) -> None:
    def fail(store: Store) -> None:
        raise StoreUnavailable("disk full")

    async def story(writer: Writer) -> None:
        jobs = (writer.run(add("a@x.example")), writer.run(fail))
        answers = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(answers[1], StoreUnavailable)
        if isinstance(answers[0], StoreUnavailable):
            assert stored(database) == []
        assert await writer.run(add("b@x.example"))

    run(database, story)


def test_what_was_given_up_is_not_run(database: Path) -> None:
    async def story(writer: Writer) -> None:
        with lock_path(database).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(StoreUnavailable):
                await writer.run(add("late@x.example"))
        assert await writer.run(lambda store: True)

    run(database, story, wait_s=0.2)
    assert stored(database) == []


def test_what_has_begun_is_waited_for(database: Path) -> None:
    async def story(writer: Writer) -> None:
        go_on = threading.Event()
        slow = asyncio.create_task(
            writer.run(lambda store: go_on.wait(10) and add("slow@x.example")(store))
        )
        await asyncio.sleep(0.3)
        go_on.set()
        assert await slow is True

    run(database, story, wait_s=0.1)
    assert stored(database) == ["slow@x.example"]


def test_closing_stores_what_waits(database: Path) -> None:
    async def story(writer: Writer) -> None:
        for n in range(500):
            writer.post(add(f"{n:03}@x.example"))

    run(database, story)
    assert len(stored(database)) == 500


def test_too_many_are_refused_at_once(database: Path) -> None:
    def fill(writer: Writer) -> None:
        for _ in range(WAITING_JOBS + JOBS_A_COMMIT + 1):
            writer.post(add("a@x.example"))

    async def story(writer: Writer) -> None:
        go_on = threading.Event()
        writer.post(lambda store: go_on.wait(10))
        with pytest.raises(StoreUnavailable, match="wait to be stored already"):
            fill(writer)
        go_on.set()

    run(database, story)


def test_senders_are_woken_after_the_commit(database: Path) -> None:
    ear = Ear(database, "sender")

    async def story(writer: Writer) -> None:
        await writer.run(add("quiet@x.example"))
        with pytest.raises(BlockingIOError):
            ear.socket.recv(1)
        await writer.run(add("a@x.example"), rings=True)
        ear.socket.settimeout(5)
        await asyncio.to_thread(ear.socket.recv, 1)

    run(database, story)
    ear.close()


def test_a_stopped_writer_says_so(database: Path) -> None:
    async def story(writer: Writer) -> None:
        await asyncio.to_thread(writer.close)
        with pytest.raises(StoreUnavailable, match="stopped"):
            await writer.run(add("a@x.example"))

    run(database, story)


def test_notifications_that_wait_share_a_commit_and_fail_alone(database: Path) -> None:
    def told(event_id: str) -> list[ProviderEvent]:
        return [ProviderEvent(EventType.OPEN, 1, "post", event_id, provider_id="p-1")]

    async def story(writer: Writer) -> None:
        learner = Learner(writer, SystemClock())
        before = remembered_commits(database)
        ids = ("one", "two", "one")
        assert await asyncio.gather(*[learner.learn(told(id_)) for id_ in ids]) == [1, 1, 0]
        assert remembered_commits(database) == before + 1

        together = [learner.learn(told(id_)) for id_ in ("three", "half \ud800", "four")]
        first, failed, second = await asyncio.gather(*together, return_exceptions=True)
        assert (first, second) == (1, 1)
        assert isinstance(failed, UnicodeEncodeError)

    run(database, story)

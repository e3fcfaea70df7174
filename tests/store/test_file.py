"""The file itself: who may write, what an error leaves, lost commits, damage, modes."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailer.errors import StoreDamaged, StoreInUse, StoreUnavailable
from mailer.mail import Content
from mailer.store import Store
from mailer.store.connection import lock_path, remembered_commits, sqlite3
from mailer.store.housekeeping import CHECKPOINT_FROM_BYTES, RESERVE_BYTES, SupervisorLock
from mailer.store.library import has_wal_reset_bug
from mailer.store.verify import verify
from mailer.vocabulary import State
from tests.store.world import RULES, World, people


@contextlib.contextmanager
def no_file_longer_than(limit_bytes: int) -> Iterator[None]:
    """Every write of this process past that size fails, as on a full disk (setrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def test_what_changes_anything_must_be_within_a_transaction(world: World) -> None:
    (request_id,) = world.accept("a@x.org", topic_id="news")
    with pytest.raises(RuntimeError, match="within write"):
        world.store.topics.pause("news")
    with pytest.raises(RuntimeError, match="within write"):
        world.store.mails.cancel(request_id, now_ms=world.now_ms)
    assert world.claim_ids() == [request_id]
    with pytest.raises(RuntimeError, match="within write"):
        world.store.topics.pause("news")


def test_transactions_do_not_nest(world: World) -> None:
    with world.store.write(), pytest.raises(RuntimeError, match="nest"), world.store.write():
        pass


def test_others_see_a_transaction_whole_and_only_when_it_has_ended(world: World) -> None:
    twin = world.twin()
    with world.store.write():
        world.store.batches.accept(world.batch(), max_queued=1)
        assert twin.batches.get("1") is None
    assert twin.batches.get("1") is not None


def test_a_part_that_fails_leaves_the_rest(world: World) -> None:
    world.accept("a@x.org", topic_id="news")

    def resume_and_fail() -> None:
        with world.store.part():
            world.store.topics.resume("news")
            raise ValueError("no")

    with world.store.write():
        world.store.topics.pause("news")
        with pytest.raises(ValueError, match="no"):
            resume_and_fail()
    topic = world.store.topics.get("news")
    assert topic is not None
    assert topic.paused


def test_a_write_that_fails_on_the_disk_stores_nothing_and_the_store_goes_on(world: World) -> None:
    ids = world.accept(*people(2))
    commits = remembered_commits(world.path)
    with (
        no_file_longer_than(wal(world.path).stat().st_size + 4096),
        pytest.raises(StoreUnavailable, match=r"mailer\.db"),
    ):
        world.accept(*people(2000))
    assert world.store.batches.get("2") is None
    assert remembered_commits(world.path) == commits
    assert world.claim_ids() == ids
    assert len(world.accept(*people(2000))) == 2000
    world.close()
    verify(world.path)


def test_a_lock_file_without_room_stops_no_commit(world: World) -> None:
    """What can't be remembered must not be told as not stored."""
    world.close()
    lock_path(world.path).unlink()
    lock_path(world.path).symlink_to("/dev/full")
    world.store = world.twin()
    (request_id,) = world.accept("a@x.org")
    assert world.twin().mails.get(request_id) is not None


def test_writers_at_the_same_time_wait_for_each_other(world: World) -> None:
    ready = threading.Barrier(4)

    def work(number: int) -> None:
        store = world.twin()
        ready.wait()
        for n in range(25):
            with store.write():
                store.senders.register(number, n, 0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.store.senders.all()) == 100


def test_who_must_not_wait_long_is_told_who_holds_the_lock(world: World) -> None:
    impatient = Store(world.path, RULES, lock_timeout_s=0.05)
    world.stores.append(impatient)
    with (
        world.store.write(),
        pytest.raises(StoreUnavailable, match=f"process {os.getpid()} "),
        impatient.write(),
    ):
        pass
    assert impatient.lock_holder() == os.getpid()
    with impatient.write():
        impatient.senders.register(1, 1, 1)


def test_a_foreign_tool_that_holds_the_database_is_waited_for(world: World) -> None:
    foreign = sqlite3.connect(world.path, isolation_level=None, check_same_thread=False)
    foreign.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.1, foreign.execute, ["ROLLBACK"])
    timer.start()
    assert len(world.accept("a@x.org")) == 1
    timer.join()
    foreign.close()


def test_no_commit_starts_a_checkpoint(world: World) -> None:
    size = world.path.stat().st_size
    while wal(world.path).stat().st_size < 2 * CHECKPOINT_FROM_BYTES + 4_000_000:
        world.accept(*people(2000))
    assert world.path.stat().st_size == size
    world.store.housekeeping.checkpoint()
    assert world.path.stat().st_size > size


def test_everything_is_readable_by_its_owner_only(world: World) -> None:
    world.accept("a@x.org")
    world.store.housekeeping.keep_reserve()
    lock = SupervisorLock(world.path)
    files = sorted(world.path.parent.iterdir())
    assert [file.name.removeprefix("mailer.db") for file in files] == [
        "", "-lock", "-reserve", "-shm", "-supervisor", "-wal",
    ]  # fmt: skip
    modes = {file.name: file.stat().st_mode & 0o777 for file in files}
    assert set(modes.values()) == {0o600}, modes
    lock.release()


def test_the_reserve_is_given_up_once_and_made_anew(world: World) -> None:
    housekeeping = world.store.housekeeping
    assert not housekeeping.has_reserve()
    housekeeping.keep_reserve()
    assert housekeeping.has_reserve()
    assert housekeeping.reserve.stat().st_size == RESERVE_BYTES
    assert housekeeping.give_up_reserve()
    assert not housekeeping.give_up_reserve()
    housekeeping.reserve.touch()
    assert not housekeeping.has_reserve(), "an empty file reserves nothing"
    housekeeping.keep_reserve()
    assert housekeeping.has_reserve()


def test_two_supervisors_do_not_work_on_one_database(world: World) -> None:
    link = world.path.with_name("link.db")
    link.symlink_to(world.path)
    lock = SupervisorLock(world.path)
    for path in (world.path, link):
        with pytest.raises(StoreInUse, match=str(os.getpid())):
            SupervisorLock(path)
    lock.release()
    SupervisorLock(link).release()


def copied(world: World, directory: Path, *names: str) -> Path:
    """A copy of the database with those companions (`-lock`, `-wal`) only."""
    directory.mkdir()
    for name in ("", *names):
        shutil.copy(f"{world.path}{name}", directory / f"mailer.db{name}")
    return directory / "mailer.db"


def test_a_database_with_all_its_parts_is_whole(world: World, tmp_path: Path) -> None:
    world.accept("a@x.org")
    path = copied(world, tmp_path / "copy", "-lock", "-wal")
    verify(path)
    store = Store(path, RULES)
    assert store.batches.queued() == 1
    store.close()


def test_a_lost_wal_is_found(world: World, tmp_path: Path) -> None:
    world.accept("a@x.org")
    path = copied(world, tmp_path / "copy", "-lock")
    with pytest.raises(StoreDamaged, match="-wal"):
        verify(path)


def test_an_older_copy_is_found_and_can_be_accepted(world: World, tmp_path: Path) -> None:
    world.accept("a@x.org")
    world.close()
    backup = copied(world, tmp_path / "backup")
    world.store = world.twin()
    world.record(world.claim())
    world.close()
    shutil.copy(backup, world.path)
    with pytest.raises(StoreDamaged, match="sent again"):
        verify(world.path)
    lock_path(world.path).unlink()
    verify(world.path)


def test_a_missing_lock_file_is_no_fault(world: World) -> None:
    (request_id,) = world.accept("a@x.org")
    world.close()
    lock_path(world.path).unlink()
    assert remembered_commits(world.path) == 0
    verify(world.path)
    world.store = world.twin()
    assert world.state(request_id) is State.PENDING
    assert remembered_commits(world.path) == 0
    world.claim()
    assert remembered_commits(world.path) > 1


def test_a_foreign_lock_file_is_named(world: World) -> None:
    lock_path(world.path).write_text("this is somebody's note, and not short")
    with pytest.raises(StoreDamaged, match="-lock"):
        verify(world.path)


def test_commits_are_counted_one_by_one(world: World) -> None:
    world.accept("a@x.org")
    before = remembered_commits(world.path)
    world.accept("b@x.org")
    assert remembered_commits(world.path) == before + 1
    verify(world.path)


@pytest.mark.parametrize(
    ("stored", "changed"),
    [(b"user1@example.org", b"user9@example.org"), (b"<p>Hello</p>", b"<p>Hallo</p>")],
    ids=["an address", "a body"],
)
def test_nothing_is_sent_that_is_not_what_was_accepted(
    world: World, stored: bytes, changed: bytes
) -> None:
    """SQLite has no checksums: a bit that changes within a value passes its own checks."""
    world.accept(*people(2))
    world.close()
    whole = world.path.read_bytes()
    assert whole.count(stored) >= 1
    world.path.write_bytes(whole.replace(stored, changed))
    world.store = world.twin()

    def contents() -> list[Content]:
        return [world.store.messages.get(mail.message_id) for mail in world.claim()]

    with pytest.raises(StoreDamaged, match="not what was accepted"):
        contents()


@pytest.mark.parametrize("offset", [0, 16, 100, 4096, 4096 * 5])
def test_a_damaged_file_is_not_sent_from_and_is_left_as_it_is(
    uncounted: World, offset: int
) -> None:
    uncounted.accept(*people(50))
    uncounted.close()
    with uncounted.path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 60)
    before = uncounted.path.read_bytes()
    with pytest.raises(StoreDamaged, match=r"mailer\.db"):
        verify(uncounted.path)
    assert uncounted.path.read_bytes() == before


def test_a_closed_store_can_be_closed_again(world: World) -> None:
    world.store.ping()
    assert len(world.store.signing_key()) == 32
    world.store.close()
    world.store.close()


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 4), False),
    ],
)
def test_libraries_that_can_lose_commits_are_known(
    version: tuple[int, ...], affected: bool
) -> None:
    assert has_wal_reset_bug(version) is affected

"""Back-ups are one instant of the database, checked, private; what is put back is held."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mailer.errors import StoreDamaged, StoreInUse, StoreUnavailable
from mailer.store.backup import back_up, restore
from mailer.store.connection import lock_path
from mailer.store.housekeeping import SupervisorLock
from mailer.store.verify import verify
from mailer.vocabulary import EventType, State
from tests.store.recount import differences
from tests.store.world import World, event, people


def test_a_back_up_is_the_database_as_it_is(world: World, tmp_path: Path) -> None:
    world.accept(*people(30))
    world.record(world.claim())
    made = back_up(world.path, tmp_path / "copy.db", world.now_ms)
    assert {path.name for path in tmp_path.glob("*copy.db*")} == {"copy.db"}
    world.accept(*people(5))
    verify(made.path, whole=True)
    assert differences(made.path) == []
    assert (made.rows["mails"], made.rows["attempts"]) == (30, 30)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600


def test_a_back_up_replaces_nothing(world: World, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(StoreUnavailable, match="name another file"):
        back_up(world.path, tmp_path / "copy.db", world.now_ms)
    assert (tmp_path / "copy.db").read_text() == "mine"


def test_a_damaged_database_makes_no_back_up(uncounted: World, tmp_path: Path) -> None:
    uncounted.accept(*people(300))
    uncounted.store.housekeeping.checkpoint()
    uncounted.close()
    with uncounted.path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(os.urandom(4096))
    with pytest.raises(StoreDamaged):
        back_up(uncounted.path, tmp_path / "copy.db", uncounted.now_ms)
    assert list(tmp_path.glob("*copy.db*")) == []


def test_what_is_put_back_is_held_and_the_rest_kept(uncounted: World, tmp_path: Path) -> None:
    world = uncounted
    waiting = world.accept(*people(3), topic_id="news")
    copy = back_up(world.path, tmp_path / "copy.db", world.now_ms).path
    world.record(world.claim())
    world.close()
    replaced = restore(copy, world.path, world.now_ms)
    assert replaced is not None
    verify(replaced, whole=True)
    verify(world.path, whole=True)
    store = world.twin()
    held = store.hold.get()
    assert held is not None
    assert held.backed_up_at_ms == world.now_ms
    (doubtful,) = store.hold.doubtful(world.now_ms)
    assert (doubtful.topic_id, doubtful.mails) == ("news", 3)

    told = event(EventType.DELIVERY, request_id=waiting[0])
    with store.write():
        store.events.learn([told], now_ms=world.now_ms)
    mail = store.mails.get(waiting[0])
    assert mail is not None
    assert mail.state is State.DELIVERED
    (doubtful,) = store.hold.doubtful(world.now_ms)
    assert doubtful.mails == 2
    with store.write():
        store.hold.release()
    assert not store.hold.is_on()


def test_nothing_is_put_back_while_a_process_works_on_it(world: World, tmp_path: Path) -> None:
    copy = back_up(world.path, tmp_path / "copy.db", world.now_ms).path
    before = world.path.stat().st_ino
    supervisor = SupervisorLock(world.path)
    with pytest.raises(StoreInUse, match=f"pid {os.getpid()}"):
        restore(copy, world.path, world.now_ms)
    supervisor.release()
    assert world.path.stat().st_ino == before


def test_a_damaged_back_up_is_not_put_back(uncounted: World, tmp_path: Path) -> None:
    uncounted.accept(*people(300))
    copy = back_up(uncounted.path, tmp_path / "copy.db", uncounted.now_ms).path
    uncounted.close()
    with copy.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(os.urandom(4096))
    with pytest.raises(StoreDamaged):
        restore(copy, uncounted.path, uncounted.now_ms)
    verify(uncounted.path, whole=True)
    assert not list(tmp_path.glob("*.replaced-*"))


def test_a_lost_database_comes_back(uncounted: World, tmp_path: Path) -> None:
    """The lock file remembers more commits than the back-up knows: restore accepts that."""
    uncounted.accept(*people(3))
    copy = back_up(uncounted.path, tmp_path / "copy.db", uncounted.now_ms).path
    uncounted.accept(*people(3))
    uncounted.close()
    uncounted.path.unlink()
    with pytest.raises(StoreUnavailable):
        verify(uncounted.path)
    assert restore(copy, uncounted.path, uncounted.now_ms) is None
    verify(uncounted.path, whole=True)
    assert lock_path(uncounted.path).exists()

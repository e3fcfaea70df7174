"""The bell and the ears: a wake-up comes, and nothing depends on one."""

from __future__ import annotations

import select
import stat
from pathlib import Path

import pytest

from mailer.wake import Bell, Ear, wake_directory


def hears(ear: Ear, within_s: float = 5.0) -> bool:
    return bool(select.select([ear.socket], [], [], within_s)[0])


def test_a_ring_wakes_every_sender(tmp_path: Path) -> None:
    ears = [Ear(tmp_path / "mailer.db", str(number)) for number in range(3)]
    bell = Bell(tmp_path / "mailer.db")
    assert not any(hears(ear, 0) for ear in ears)
    bell.ring()
    assert all(hears(ear) for ear in ears)
    for ear in ears:
        ear.drain()
    assert not any(hears(ear, 0) for ear in ears)
    bell.ring()
    assert all(hears(ear) for ear in ears)
    for ear in ears:
        ear.close()
    bell.close()


def test_many_rings_are_taken_at_once(tmp_path: Path) -> None:
    ear, bell = Ear(tmp_path / "mailer.db", "0"), Bell(tmp_path / "mailer.db")
    for _ in range(10_000):
        bell.ring()
    assert hears(ear)
    ear.drain()
    assert not hears(ear, 0)


def test_ringing_where_nobody_listens_does_nothing(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "mailer.db")
    bell.ring()
    ear = Ear(tmp_path / "mailer.db", "0")
    ear.close()
    ear.close()
    bell.ring()
    assert list(wake_directory(tmp_path / "mailer.db").iterdir()) == []


def test_what_a_dead_sender_left_stops_neither_bell_nor_successor(tmp_path: Path) -> None:
    dead, other = Ear(tmp_path / "mailer.db", "0"), Ear(tmp_path / "mailer.db", "1")
    dead.socket.close()
    bell = Bell(tmp_path / "mailer.db")
    bell.ring()
    assert hears(other)
    successor = Ear(tmp_path / "mailer.db", "0")
    bell.ring()
    assert hears(successor)


def test_strangers_can_not_ring(tmp_path: Path) -> None:
    Ear(tmp_path / "mailer.db", "0")
    assert stat.S_IMODE(wake_directory(tmp_path / "mailer.db").stat().st_mode) == 0o700


@pytest.mark.parametrize("depth", [1, 12])
def test_a_long_path_is_no_hindrance(tmp_path: Path, depth: int) -> None:
    """A socket's address holds 107 bytes (unix(7))."""
    directory = tmp_path.joinpath(*["a-long-name-of-a-directory"] * depth)
    directory.mkdir(parents=True)
    ear, bell = Ear(directory / "mailer.db", "0"), Bell(directory / "mailer.db")
    bell.ring()
    assert hears(ear)


def test_a_link_and_its_database_are_one(tmp_path: Path) -> None:
    (tmp_path / "mailer.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "mailer.db")
    ear, bell = Ear(tmp_path / "mailer.db", "0"), Bell(tmp_path / "link.db")
    bell.ring()
    assert hears(ear)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        ear, bell = Ear(tmp_path / "mailer.db", "0"), Bell(tmp_path / "mailer.db")
        bell.ring()
        ear.close()
        bell.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before

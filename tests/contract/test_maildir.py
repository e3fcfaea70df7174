"""The maildir transport: no second copy, nothing outside its directory, nothing half written."""

from __future__ import annotations

import mailbox
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mailer_maildir import MaildirSettings, MaildirTransport, mailer_transports

from mailer.settings import Settings
from mailer.testing import envelope
from mailer.vocabulary import OutcomeKind

NAME = "1700000000.contract-1.mailer"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "box" / "maildir"


@pytest.fixture
def transport(path: Path) -> MaildirTransport:
    return MaildirTransport(path)


def files_under(directory: Path) -> set[str]:
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if not p.is_dir()}


def test_it_is_always_there_at_the_path_of_the_settings(path: Path) -> None:
    transports = mailer_transports(
        Settings(of_plugins={MaildirSettings: MaildirSettings(path=path)})
    )
    assert list(transports) == ["maildir"]
    transports["maildir"].open().send([envelope(1)])
    assert files_under(path) == {f"new/{NAME}"}


def test_only_its_owner_can_read_what_it_writes(transport: MaildirTransport, path: Path) -> None:
    before = os.umask(0)
    try:
        transport.open().send([envelope(1)])
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in [path, *path.rglob("*")]}
    assert modes == {"maildir": 0o700, "tmp": 0o700, "new": 0o700, "cur": 0o700, NAME: 0o600}


def test_another_programs_maildir_reader_finds_mail_and_recipient(
    transport: MaildirTransport, path: Path
) -> None:
    transport.open().send([envelope(1), envelope(2)])
    messages = sorted(mailbox.Maildir(path, create=False), key=lambda m: m["Message-ID"])
    assert [m["Delivered-To"] for m in messages] == ["user1@example.net", "user2@example.net"]
    assert [m["Return-Path"] for m in messages] == ["<shop@example.org>"] * 2
    assert b"\r" not in (path / "new" / NAME).read_bytes()


def test_a_second_hand_over_after_a_crash_leaves_one_copy(
    transport: MaildirTransport, path: Path
) -> None:
    first = transport.open().send([envelope(1)])
    written = (path / "new" / NAME).read_bytes()
    again = MaildirTransport(path).open().send([envelope(1), envelope(2)])
    assert [o.kind for o in (*first, *again)] == [OutcomeKind.ACCEPTED] * 3
    assert files_under(path) == {f"new/{NAME}", "new/1700000000.contract-2.mailer"}
    assert (path / "new" / NAME).read_bytes() == written


DELIVER_AND_DIE = """
import os, signal, sys
from pathlib import Path
from mailer_maildir import MaildirTransport
from mailer.testing import envelope

session = MaildirTransport(Path(sys.argv[1])).open()
steps_left = int(sys.argv[2])

def count_down(event, args):
    global steps_left
    if event in {"open", "os.link", "os.remove"}:
        steps_left -= 1
        if steps_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count_down)
session.send([envelope(1)])
"""


def test_killed_at_any_step_and_tried_again_it_leaves_one_whole_copy(tmp_path: Path) -> None:
    MaildirTransport(tmp_path / "whole").open().send([envelope(1)])
    whole = (tmp_path / "whole" / "new" / NAME).read_bytes()
    killed = 0
    while True:
        path = tmp_path / f"killed at {killed}"
        command = [sys.executable, "-c", DELIVER_AND_DIE, str(path), str(killed)]
        died = subprocess.run(command, check=False).returncode
        assert files_under(path / "new") <= {NAME}
        (outcome,) = MaildirTransport(path).open().send([envelope(1)])
        assert outcome.kind is OutcomeKind.ACCEPTED
        assert files_under(path) == {f"new/{NAME}"}
        assert (path / "new" / NAME).read_bytes() == whole
        if died == 0:
            break
        assert died == -signal.SIGKILL
        killed += 1
    assert killed >= 6


def test_what_a_dead_process_left_in_tmp_is_replaced(
    transport: MaildirTransport, path: Path
) -> None:
    transport.open()
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    (path / "tmp" / f"{NAME}.{int(dead.stdout)}").write_text("half a mail")
    (path / "tmp" / f"{NAME}.{os.getpid()}").write_text("half a mail")
    (path / "tmp" / "1700000000.M1P2.otherprogram").write_text("not ours")
    session = transport.open()
    session.send([envelope(1)])
    assert files_under(path) == {f"new/{NAME}", "tmp/1700000000.M1P2.otherprogram"}
    assert b"half a mail" not in (path / "new" / NAME).read_bytes()


@pytest.mark.parametrize(
    "request_id",
    [
        "../escaped",
        "../../escaped",
        "/tmp/escaped",
        "a/b",
        "..",
        "a\0b",
        "a\nb",
        "",
        "x" * 300,
        "Ünïcode",
    ],
)
def test_no_request_id_leads_out_of_the_maildir(
    request_id: str, transport: MaildirTransport, tmp_path: Path
) -> None:
    session = transport.open()
    (outcome,) = session.send([replace(envelope(1), request_id=request_id)])
    assert outcome.kind is OutcomeKind.REJECTED
    assert files_under(tmp_path) == set()


@pytest.mark.parametrize("name", ["tmp", "new", "cur"])
def test_a_symbolic_link_for_a_directory_is_refused(
    name: str, transport: MaildirTransport, path: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    session = transport.open()
    (path / name).rmdir()
    (path / name).symlink_to(outside)
    with pytest.raises(OSError, match=r"directory|symbolic"):
        transport.open()
    if name != "cur":
        (outcome,) = session.send([envelope(1)])
        assert outcome.kind is OutcomeKind.DEFERRED
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("place", ["tmp", "new"])
def test_a_symbolic_link_in_the_place_of_the_file_is_not_followed(
    place: str, transport: MaildirTransport, path: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    session = transport.open()
    name = NAME if place == "new" else f"{NAME}.{os.getpid()}"
    (path / place / name).symlink_to(outside)
    (outcome,) = session.send([envelope(1)])
    assert not outside.exists()
    if place == "new":
        assert outcome.kind is OutcomeKind.DEFERRED
        assert "is no file" in outcome.detail
    else:
        assert outcome.kind is OutcomeKind.ACCEPTED
        assert (path / "new" / NAME).is_file()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_defers_and_leaves_nothing_behind(small_disk: Path) -> None:
    transport = MaildirTransport(small_disk / "maildir")
    session = transport.open()
    (fits,) = session.send([envelope(1)])
    (too_big,) = session.send([envelope(2, text="x" * 300_000)])
    (fits_again,) = session.send([envelope(3)])
    assert fits.kind is fits_again.kind is OutcomeKind.ACCEPTED
    assert too_big.kind is OutcomeKind.DEFERRED
    assert "No space left" in too_big.detail
    assert len(files_under(small_disk)) == 2


def test_a_read_only_disk_defers_until_it_can_be_written(small_disk: Path) -> None:
    transport = MaildirTransport(small_disk / "maildir")
    session = transport.open()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    (outcome,) = session.send([envelope(1)])
    assert outcome.kind is OutcomeKind.DEFERRED
    assert "Read-only" in outcome.detail
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    (outcome,) = session.send([envelope(1)])
    assert outcome.kind is OutcomeKind.ACCEPTED

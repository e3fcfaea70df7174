"""What `mailer supervise` tells systemd: ready when it supervises, and alive as long as it does."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.process.harness import Mailer


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Where systemd would listen."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ours:
        ours.bind(str(tmp_path / "notify"))
        ours.settimeout(10)
        yield ours


def told(manager: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())


def told_of(manager: socket.socket, name: str) -> dict[str, str]:
    """The first that says something of this."""
    while name not in (state := told(manager)):
        pass
    return state


def test_ready_alive_stuck_stopping(
    start: Callable[..., Mailer], manager: socket.socket, tmp_path: Path
) -> None:
    mailer = start(
        command="supervise", NOTIFY_SOCKET=str(tmp_path / "notify"), SENDERS="2", LOG_LEVEL="INFO"
    )
    assert told_of(manager, "READY")["STATUS"] == "2 of 2 senders, 0 mails unfinished"
    assert told(manager)["WATCHDOG"] == "1"

    mailer.process.send_signal(signal.SIGSTOP)
    manager.settimeout(3)
    with pytest.raises(TimeoutError):
        told_of(manager, "anything")
    mailer.process.send_signal(signal.SIGCONT)
    assert told(manager)["WATCHDOG"] == "1"

    mailer.process.send_signal(signal.SIGTERM)
    assert told_of(manager, "STOPPING")["STATUS"] == "waiting for the senders to end"


def test_not_ready_while_no_sender_begins(
    start: Callable[..., Mailer], manager: socket.socket, tmp_path: Path
) -> None:
    """The loop turns, but its senders can't make the sockets they are woken by, and end."""
    mailer = start(command="serve", NOTIFY_SOCKET=str(tmp_path / "notify"))
    told(manager)  # gunicorn's own
    (mailer.directory / "mailer.db-wake").touch()
    supervisor = mailer.spawn("supervise")
    try:
        states = [told(manager) for _ in range(4)]
    finally:
        supervisor.terminate()
        supervisor.wait()
    assert all(state["WATCHDOG"] == "1" and "READY" not in state for state in states)
    assert states[-1]["STATUS"] == "0 of 2 senders, 0 mails unfinished"

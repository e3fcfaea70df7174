"""Peers: others at the same work, on the same machine and disk, each as durable as mailer is.

Postfix, from Debian, takes mail by SMTP and relays it to a sink. huey and litequeue are queues in
SQLite, django-post_office is a mail queue in a Django project's database; they are installed into
an environment of their own, and called in process, which spares them the HTTP that mailer serves.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.bench.report import PEER, Figure
from tests.installation import free_port
from tests.system.postfix import Postfix
from tests.waiting import until

PINNED: Final = (
    "Django==5.2.19",
    "django-post_office==3.12.0",
    "huey==3.5.4",
    "litequeue==0.9",
)
QUEUES: Final = {
    "huey": "huey's SQLite queue",
    "litequeue": "litequeue",
    "post_office": "django-post_office",
}
SESSIONS: Final = 64
HOLD: Final = "smtpd_client_restrictions = check_client_access static:HOLD\n"


def peers(directory: Path, mails: int, seconds: int, names: Sequence[str]) -> Iterator[Figure]:
    """Postfix with so many mails, each named queue for so many seconds."""
    yield from _postfix(mails)
    if names:
        python = directory / "venv/bin/python"
        subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINNED], check=True)
    for name in names:
        done = subprocess.run(
            [python, Path(__file__).with_name("peer_queues.py"), name, directory, f"{seconds}"],
            check=True,
            capture_output=True,
        )
        rates = json.loads(done.stdout.splitlines()[-1])
        what = f"{PEER}{QUEUES[name]}"
        yield Figure(1, f"{what} stores mails, FULL, 2 processes", rates["stored_per_s"], "/s")
        yield Figure(3, f"{what} takes and finishes mails, FULL", rates["done_per_s"], "/s")


def _postfix(mails: int) -> Iterator[Figure]:
    """As acceptor, as queue, and all the way; it syncs each mail before it answers 250."""
    with _Sink(mails) as sink, Postfix(HOLD + sink.as_relay) as postfix:
        took_s = _posted(postfix, mails)
        assert postfix.queued("hold") == mails
        name = f"{PEER}Postfix accepts, each synced, {SESSIONS} connections"
        yield Figure(1, name, mails / took_s, "/s")
        began = time.perf_counter()
        postfix.release()
        sink.await_all()
        took_s = time.perf_counter() - began
        yield Figure(3, f"{PEER}Postfix relays what it held to a sink", mails / took_s, "/s")
    with _Sink(mails) as sink, Postfix(sink.as_relay) as postfix:
        began = time.perf_counter()
        _posted(postfix, mails)
        sink.await_all()
        took_s = time.perf_counter() - began
        yield Figure(4, f"{PEER}Postfix, accepted and relayed to a sink", mails / took_s, "/s")


def _posted(postfix: Postfix, mails: int) -> float:
    """Seconds that so many mails took over 64 connections."""
    began = time.perf_counter()
    subprocess.run(
        [
            "smtp-source", "-d", "-s", f"{SESSIONS}", "-m", f"{mails}", "-l", "500",
            "-f", "shop@example.org", "-t", "ann@elsewhere.test", f"127.0.0.1:{postfix.port}",
        ],
        check=True, timeout=600,
    )  # fmt: skip
    return time.perf_counter() - began


class _Sink:
    """Postfix's own, which ends when it has taken so many mails."""

    def __init__(self, mails: int) -> None:
        self._port = free_port()
        self._process = subprocess.Popen(
            ["smtp-sink", "-u", "postfix", "-M", f"{mails}", f"127.0.0.1:{self._port}", "1000"]
        )

    @property
    def as_relay(self) -> str:
        return f"relayhost = [127.0.0.1]:{self._port}\n"

    def await_all(self) -> None:
        until(lambda: self._process.poll() is not None, within_s=600)
        assert self._process.returncode == 0

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

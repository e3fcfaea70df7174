"""Clients that post one mail after the other and keep a ledger of what they were told."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from mailer.store.connection import sqlite3
from tests.api.service import Answer
from tests.faults.mailer_run import MailerRun, post
from tests.waiting import until


class Load:
    """A few threads; each mail goes to an address of its own."""

    _names = itertools.count()

    def __init__(
        self, run: MailerRun, *, clients: int = 4, pause_s: float = 0.0, content: str = "<p>Hello"
    ) -> None:
        self.accepted: dict[str, str] = {}
        """Recipient → request id, of every 200."""
        self.refused: dict[str, Answer] = {}
        """Recipient → any other answer."""
        self.unanswered: set[str] = set()
        self.longest_s = 0.0
        """How long the slowest answer took."""
        self._run = run
        self._pause_s = pause_s
        self._content = content
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, accepted: int, *, within_s: float = 30) -> None:
        """Until so many mails have been accepted in all."""
        until(lambda: len(self.accepted) >= accepted, within_s=within_s)

    def wait_for_refused(self, refused: int) -> None:
        until(lambda: len(self.refused) >= refused, within_s=30)

    def _client(self) -> None:
        while not self._stop.is_set():
            with closing(self._run.connection()) as connection:
                try:
                    self._talk(connection)
                except (OSError, http.client.HTTPException):
                    self._stop.wait(0.05)

    def _talk(self, connection: http.client.HTTPConnection) -> None:
        while not self._stop.wait(self._pause_s):
            email = f"n{next(self._names)}@example.com"
            message = {
                "topic_id": "load",
                "emails": [email],
                "subject": email,
                "content": self._content,
            }
            self.unanswered.add(email)
            began = time.monotonic()
            answer = post(connection, {"messages": [message]})
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.unanswered.discard(email)
            if answer.status == 200:
                self.accepted[email] = answer.json["messages"][0]["request_ids"][0]
            else:
                self.refused[email] = answer


def assert_told_to_come_back(refused: Sequence[Answer]) -> None:
    """Every refusal is a 503 in the documented words."""
    assert {answer.status for answer in refused} == {503}
    assert {answer.headers["Content-Type"] for answer in refused} == {"application/problem+json"}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert {answer.json["title"] for answer in refused} == {"Service Unavailable"}
    assert all(answer.json["detail"].endswith("was stored") for answer in refused)


def stored(database: Path) -> dict[str, str]:
    """Recipient → request id, of every mail in a database."""
    rows = query(
        database,
        "SELECT m.recipient, b.batch_id || '-' || (m.id - b.id)"
        " FROM mails m JOIN batches b ON b.id = m.batch",
    )
    return dict(rows)


def uncertain_once(database: Path) -> set[str]:
    """Recipients of mails of which at some time nobody knew whether they had been taken."""
    sql = "SELECT recipient FROM mails WHERE id IN (SELECT mail FROM events WHERE type = ?)"
    return {recipient for (recipient,) in query(database, sql, "uncertain")}


def integrity(database: Path) -> str:
    return str(query(database, "PRAGMA integrity_check")[0][0])


def query(database: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Read with a connection that can't write."""
    with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, parameters).fetchall()


@contextmanager
def reading(database: Path) -> Iterator[None]:
    """A read transaction is open."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM mails").fetchall()
        yield
        connection.execute("COMMIT")

"""A database changed behind mailer's back: refused, or sent from exactly as accepted.

Databases with mail in every state are damaged again and again. Nothing altered may leave them,
nothing a second time, nothing that was cancelled, suppressed, paused or not yet due.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from mailer.store.connection import sqlite3
from tests import weakened
from tests.faults.load import query
from tests.faults.mailer_run import MailerRun, recipients
from tests.faults.mutations import ANYWHERE, PAGE_BYTES, overwrite
from tests.smtp_sink import SmtpSink
from tests.waiting import until

WAITING = 20
LINKS = {"SERVER_URL": "http://mail.test"}
"""Links don't depend on the port of the day."""


@pytest.fixture(scope="module", params=["stopped", "killed"])
def populated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with mail in every state, whose processes ended cleanly or were killed."""
    return populate(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def intact(populated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What is sent when nothing was damaged: recipient → message."""
    database = copied(populated, tmp_path_factory.mktemp("intact"))
    status, sent, _ = sent_from(database)
    assert status == 0
    assert sent.keys() == {f"waiting{n}@example.com" for n in range(WAITING)}
    return sent


@pytest.mark.rounds(10 * len(ANYWHERE))
def test_nothing_altered_is_sent(
    populated: Path, intact: dict[str, bytes], tmp_path: Path, round_: int
) -> None:
    database = copied(populated, tmp_path)
    mutate = ANYWHERE[round_ % len(ANYWHERE)]
    mutate(database, Random(f"{populated}{round_}"))
    before = sha256(database.read_bytes()).digest()
    status, sent, log = sent_from(database)
    assert sent.items() <= intact.items()
    if status == 0:
        assert sent == intact
    elif "started sender" not in log:
        assert "Error: " in log
        assert str(database) in log
        assert sha256(database.read_bytes()).digest() == before


# Each changes what a mail is made of and keeps the file sound in SQLite's eyes.
ALTERATIONS = (
    "UPDATE mails SET recipient = 'x' || recipient",
    "UPDATE mails SET name = name || 'x'",
    "UPDATE mails SET data = replace(data, 'N', 'M')",
    "UPDATE mails SET batch = 1",
    "UPDATE mails SET message = 1",
    "UPDATE mails SET topic = 1",
    "UPDATE mails SET id = id + 1000000",
    "UPDATE batches SET accepted_at_ms = accepted_at_ms + 1000",
    "UPDATE messages SET topic = 1",
    "UPDATE messages SET subject = subject || 'x'",
    "UPDATE messages SET html = replace(html, 'Dear', 'Near')",
    "UPDATE messages SET templated = 0",
    "UPDATE attachments SET content = x'00'",
)

# What keeps a mail from being sent, and a byte's change that lets it go.
HOLDING_BACK = (
    ("suppressions", b"barred7@", b"barred~@"),
    # The topic's name has 6 characters, `paused` is 1, `cancelling` is 0; then it is 0 too
    # (serial types of https://www.sqlite.org/fileformat.html#record_format).
    ("topics", b"\x19\x09\x08", b"\x19\x08\x08"),
)


@pytest.mark.parametrize("populated", ["killed"], indirect=True)
@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_a_mail_is_checked_before_it_is_sent(
    populated: Path, tmp_path: Path, alteration: str
) -> None:
    database = copied(populated, tmp_path)
    alter(database, alteration)
    status, sent, log = sent_from(database)
    assert (status, sent) == (1, {})
    assert "damaged" in log
    assert "restore a back-up" in log


@pytest.mark.parametrize("populated", ["killed"], indirect=True)
def test_control_without_the_checks_what_was_altered_is_sent(
    populated: Path, intact: dict[str, bytes], tmp_path: Path
) -> None:
    """A sender by itself: the supervisor's check at the start would see nothing here."""
    database = copied(populated, tmp_path)
    alter(database, ALTERATIONS[0])
    status, sent, _ = sent_from(database, "sender", "0", without=weakened.checks_of_mail)
    assert status == 0
    assert sent.keys() > {f"x{recipient}" for recipient in intact}


@pytest.mark.parametrize("populated", ["killed"], indirect=True)
@pytest.mark.parametrize(("table", "old", "new"), HOLDING_BACK)
def test_what_holds_a_mail_back_is_checked_at_the_start(
    populated: Path, tmp_path: Path, table: str, old: bytes, new: bytes
) -> None:
    database = copied(populated, tmp_path)
    replace_in_table(database, table, old, new)
    status, sent, log = sent_from(database)
    assert (status, sent) == (1, {})
    assert "is damaged" in log


@pytest.mark.parametrize("populated", ["killed"], indirect=True)
def test_control_without_the_check_at_the_start_mail_goes_to_whom_it_must_not(
    populated: Path, tmp_path: Path
) -> None:
    database = copied(populated, tmp_path)
    replace_in_table(database, *HOLDING_BACK[0])
    _, sent, _ = sent_from(database, without=weakened.check_at_start)
    assert "barred7@example.com" in sent


def alter(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(sql)


def replace_in_table(database: Path, table: str, old: bytes, new: bytes) -> None:
    """In the first page of a table, past SQLite."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint")
        sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(sql, (table,)).fetchone()
    place = database.read_bytes().index(old, (page - 1) * PAGE_BYTES, page * PAGE_BYTES)
    overwrite(database, place, new)


def sent_from(
    database: Path, *command: str, without: weakened.Protection | None = None
) -> tuple[int, dict[str, bytes], str]:
    """Let a supervisor send what it will: its exit status, recipient → message, its log."""
    command = command or ("supervise",)
    with SmtpSink() as sink:
        place = (database, database.parent.parent, sink.port)
        run = MailerRun(*place, *command, environ=LINKS, without=without)
        try:
            until(lambda: run.process.poll() is not None or nothing_to_do(database), within_s=30)
            if run.process.poll() is None:
                run.process.terminate()
            status = run.ended()
        finally:
            run.kill()
    assert len(set(recipients(sink))) == len(sink.mails)
    return status, {mail.recipients[0]: mail.message for mail in sink.mails}, run.log


def nothing_to_do(database: Path) -> bool:
    """Whether a sender has come and has taken all there was."""
    try:
        (senders,) = query(database, "SELECT count(*) FROM senders")[0]
        busy = query(
            database,
            "SELECT 1 FROM mails WHERE state = 'sending' OR waits_for IN ('turn', 'alone') LIMIT 1",
        )
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return False
    return senders > 0 and not busy


def copied(home: Path, to: Path) -> Path:
    return Path(shutil.copytree(home, to / "home")) / "mailer.db"


def populate(directory: Path, how: str) -> Path:
    database = directory / "home" / "mailer.db"
    database.parent.mkdir()
    with SmtpSink() as sink:
        run = MailerRun(database, directory, sink.port, environ=LINKS).serving()
        post(run, "sent", 20)
        until(lambda: set(states(database)) == {"sent"})
        run.terminate()
        api = MailerRun(database, directory, sink.port, "serve", environ=LINKS).serving()
        for topic in ("paused", "cancelled", "barred", "waiting"):
            post(api, topic, 20)
        post(api, "later", 10, scheduled_at=in_a_month())
        assert api.call("POST", "/v1/topics/paused/pause")[0] == 200
        assert api.call("DELETE", "/v1/topics/cancelled")[0] == 200
        for n in range(20):
            entry = {"email": f"barred{n}@example.com"}
            assert api.call("POST", "/v1/suppressions", entry)[0] < 300
        if how == "killed":
            api.kill()
        else:
            assert api.terminate() == 0
    return database.parent


def post(run: MailerRun, topic: str, mails: int, **fields: str) -> None:
    message = {
        "topic_id": topic,
        "subject": f"News of {topic}",
        "content": "<p>Dear {{ name }}, " + "x" * 3000,
        "recipients": [
            {"email": f"{topic}{n}@example.com", "name": f"N{n}", "data": {"name": f"N{n}"}}
            for n in range(mails)
        ],
        "attachments": [
            {"filename": "a.bin", "content_type": "application/x-a", "content": "AAEC"}
        ],
    }
    status, answer = run.call("POST", "/v1/messages", {"messages": [message], **fields})
    assert status == 200, answer


def in_a_month() -> str:
    return (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")


def states(database: Path) -> dict[str, int]:
    return dict(query(database, "SELECT state, count(*) FROM mails GROUP BY state"))

"""The tables, as migrations, and the checks a file must pass before anything is sent from it.

`migrate` is the only writer of the schema and runs before any process starts. Columns carry the
words of `vocabulary`; times are milliseconds since 1970 (`_ms`) or microseconds of the boot's
monotonic clock (`_us`).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final
from urllib.parse import quote

import sqlite_utils
from sqlite_utils import Migrations

from mailer.errors import SchemaMismatch, StoreDamaged, StoreUnavailable
from mailer.store.connection import (
    Database,
    lock_path,
    remembered_commits,
    sqlite3,
)

APPLICATION_ID: Final = 0x6D61696C
"""Marks the file as mailer's own (https://www.sqlite.org/pragma.html#pragma_application_id)."""

FULL_CHECK_BYTES: Final = 256 * 1024 * 1024
"""Files up to this size are checked whole at every start; larger ones by a nightly duty."""

migrations = Migrations("mailer")


@migrations()
def m001_first(db: sqlite_utils.Database) -> None:
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for statement in _FIRST.split(";\n\n"):
        db.execute(statement)
    db.execute(
        "INSERT INTO meta (id, commits, last_mail_id, signing_key, boot_id)"
        " VALUES (1, 0, 0, ?, '')",
        [secrets.token_bytes(32)],
    )


_FIRST = """
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    commits INTEGER NOT NULL,
    last_mail_id INTEGER NOT NULL,
    signing_key BLOB NOT NULL,
    boot_id TEXT NOT NULL
) STRICT;

CREATE TABLE batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    batch_id TEXT NOT NULL UNIQUE,
    first_mail_id INTEGER NOT NULL,
    mails INTEGER NOT NULL,
    transport TEXT NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    due_at_ms INTEGER NOT NULL,
    prune_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX batches_prune ON batches (prune_at_ms);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    batch INTEGER NOT NULL,
    topic INTEGER NOT NULL,
    lane TEXT NOT NULL,
    expires_at_ms INTEGER,
    digest BLOB NOT NULL,
    subject TEXT NOT NULL,
    html TEXT,
    text TEXT,
    from_email TEXT,
    reply_to TEXT,
    headers TEXT NOT NULL,
    tags TEXT NOT NULL,
    track_opens INTEGER NOT NULL,
    track_clicks INTEGER NOT NULL,
    templated INTEGER NOT NULL
) STRICT;

CREATE INDEX messages_batch ON messages (batch);

CREATE TABLE attachments (
    message INTEGER NOT NULL,
    position INTEGER NOT NULL,
    filename TEXT NOT NULL,
    content_type TEXT NOT NULL,
    content_id TEXT,
    content BLOB NOT NULL,
    PRIMARY KEY (message, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE topics (
    id INTEGER PRIMARY KEY,
    topic_id TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0,
    cancelling INTEGER NOT NULL DEFAULT 0,
    uncertain_policy TEXT,
    first_due_at_ms INTEGER,
    last_sent_at_ms INTEGER,
    total INTEGER NOT NULL DEFAULT 0,
    pending INTEGER NOT NULL DEFAULT 0,
    sending INTEGER NOT NULL DEFAULT 0,
    sent INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    bounced INTEGER NOT NULL DEFAULT 0,
    complained INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    uncertain INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    suppressed INTEGER NOT NULL DEFAULT 0,
    deliveries INTEGER NOT NULL DEFAULT 0,
    bounces INTEGER NOT NULL DEFAULT 0,
    complaints INTEGER NOT NULL DEFAULT 0,
    opens INTEGER NOT NULL DEFAULT 0,
    opens_total INTEGER NOT NULL DEFAULT 0,
    opens_automated INTEGER NOT NULL DEFAULT 0,
    clicks INTEGER NOT NULL DEFAULT 0,
    unsubscribes INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE mails (
    id INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    message INTEGER NOT NULL,
    topic INTEGER NOT NULL,
    recipient TEXT NOT NULL,
    name TEXT NOT NULL,
    data TEXT,
    checksum INTEGER NOT NULL,
    transport TEXT NOT NULL,
    lane TEXT NOT NULL,
    state TEXT NOT NULL,
    waits_for TEXT,
    due_at_ms INTEGER NOT NULL,
    first_due_at_ms INTEGER NOT NULL,
    state_at_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    sender INTEGER,
    slot_us INTEGER,
    settle_at_ms INTEGER,
    opened_at_ms INTEGER,
    provider_id TEXT,
    detail TEXT
) STRICT;

CREATE INDEX mails_queue ON mails (transport, waits_for, lane, due_at_ms, id)
    WHERE waits_for IS NOT NULL;

CREATE INDEX mails_topic ON mails (topic, id);

CREATE INDEX mails_recipient ON mails (recipient, id);

CREATE INDEX mails_sender ON mails (sender) WHERE sender IS NOT NULL;

CREATE INDEX mails_settle ON mails (settle_at_ms) WHERE settle_at_ms IS NOT NULL;

CREATE INDEX mails_provider ON mails (provider_id) WHERE provider_id IS NOT NULL;

CREATE TABLE queue_depths (
    transport TEXT NOT NULL,
    lane TEXT NOT NULL,
    mails INTEGER NOT NULL,
    PRIMARY KEY (transport, lane)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    mail INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER NOT NULL,
    transport TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL,
    provider_id TEXT,
    PRIMARY KEY (mail, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    type TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    mail INTEGER,
    topic INTEGER,
    batch INTEGER,
    source TEXT NOT NULL,
    source_event_id TEXT,
    provider_id TEXT,
    request_id TEXT,
    permanent INTEGER NOT NULL DEFAULT 0,
    automated INTEGER NOT NULL DEFAULT 0,
    detail TEXT NOT NULL,
    raw TEXT
) STRICT;

CREATE INDEX events_mail ON events (mail) WHERE mail IS NOT NULL;

CREATE UNIQUE INDEX events_source ON events (source, source_event_id)
    WHERE source_event_id IS NOT NULL;

CREATE INDEX events_parked ON events (provider_id) WHERE mail IS NULL AND provider_id IS NOT NULL;

CREATE TABLE suppressions (
    email TEXT NOT NULL,
    scope TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (email, scope)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    subject TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (subject, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_age ON idempotency (created_at_ms);

CREATE TABLE senders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pid INTEGER NOT NULL,
    pid_started INTEGER NOT NULL,
    lease_until_us INTEGER NOT NULL
) STRICT;

CREATE TABLE slots (
    id INTEGER PRIMARY KEY,
    transport TEXT NOT NULL,
    sender INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    until_us INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    next_us INTEGER NOT NULL
) STRICT;

CREATE INDEX slots_recent ON slots (transport, until_us, recipients);

CREATE TABLE transports (
    transport TEXT PRIMARY KEY,
    reports_events INTEGER NOT NULL DEFAULT 0,
    blocked_until_us INTEGER NOT NULL DEFAULT 0,
    blocked_reason TEXT NOT NULL DEFAULT '',
    throttled INTEGER NOT NULL DEFAULT 0,
    max_per_second REAL,
    max_24h INTEGER,
    sent_24h INTEGER,
    quota_at_ms INTEGER
) STRICT;

CREATE TABLE sends (
    transport TEXT NOT NULL,
    minute INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    PRIMARY KEY (transport, minute)
) STRICT, WITHOUT ROWID
"""


def migrate(path: Path) -> list[str]:
    """Create the database or bring its schema up to date; the names of the migrations applied.

    Raises StoreDamaged, SchemaMismatch or StoreUnavailable, and leaves the file as it was then.
    """
    path = path.resolve()
    if not path.parent.is_dir():
        raise StoreUnavailable(f"the directory {path.parent} does not exist; create it")
    if path.exists() and path.stat().st_size > 0:
        verify(path)
    elif remembered_commits(path):
        raise _lost(path, 0)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    _make_private(path)
    database = Database(path)
    try:
        return database.migrate(migrations)
    finally:
        database.close()


def verify(path: Path) -> None:
    """Read-only: this is our file, whole, of a known schema, and has lost no commit.

    Raises StoreDamaged or SchemaMismatch, naming the file and the next step.
    """
    remembered = remembered_commits(path)
    try:
        connection = sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True, timeout=5)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path} can't be opened: {error}") from error
    try:
        _check_identity(connection, path)
        _check_content(connection, path)
        _check_commits(connection, path, remembered)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in {5, 8, 10, 13, 14}:
            raise StoreUnavailable(f"{path} can't be read now: {error}") from error
        raise _damaged(path, str(error)) from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error
    finally:
        connection.close()


def check_schema(database: Database) -> None:
    """Raises SchemaMismatch unless the schema is the one this program was written for."""
    row = database.one("SELECT count(*) FROM sqlite_master WHERE name = '_sqlite_migrations'")
    applied = (
        {name for (name,) in database.all("SELECT name FROM _sqlite_migrations")}
        if row and row[0]
        else set()
    )
    _compare_schema(database.path, applied)


def _compare_schema(path: Path, applied: set[str]) -> None:
    known = {migration.name for migration in migrations.pending(sqlite_utils.Database(memory=True))}
    if applied - known:
        raise SchemaMismatch(
            f"{path} was written by a newer mailer (schema has {sorted(applied - known)[0]}):"
            " install that version again, or restore a back-up from before the upgrade."
        )
    if known - applied:
        raise SchemaMismatch(f"{path} has an older schema: run `mailer migrate` first.")


def _check_identity(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    tables = {n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    if tables <= {"_sqlite_migrations"} and application_id == 0:
        if remembered_commits(path):
            raise _lost(path, 0)
        return
    if application_id != APPLICATION_ID or "meta" not in tables:
        raise StoreDamaged(
            f"{path} is an SQLite database, but not one of mailer's:"
            " let DATABASE_URL name another file."
        )
    applied = {n for (n,) in connection.execute("SELECT name FROM _sqlite_migrations")}
    known = {migration.name for migration in migrations.pending(sqlite_utils.Database(memory=True))}
    if applied - known:
        _compare_schema(path, applied)


def _check_content(connection: sqlite3.Connection, path: Path) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    if pages * page_bytes > FULL_CHECK_BYTES:
        return
    problems = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if problems != ["ok"]:
        raise _damaged(path, problems[0])


def _check_commits(connection: sqlite3.Connection, path: Path, remembered: int) -> None:
    (tables,) = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE name = 'meta'"
    ).fetchone()
    if not tables:
        return
    (commits,) = connection.execute("SELECT commits FROM meta").fetchone()
    if commits < remembered:
        raise _lost(path, commits)


def _lost(path: Path, commits: int) -> StoreDamaged:
    return StoreDamaged(
        f"{path} ends at commit {commits}, but commit {remembered_commits(path)} was made: its"
        f" -wal file was lost or swapped, or this is an older copy. Put the missing file back, or"
        f" restore a back-up and remove {lock_path(path)} to accept what it holds: mail sent"
        " since may then be sent again."
    )


def _damaged(path: Path, problem: str) -> StoreDamaged:
    return StoreDamaged(
        f"{path} is damaged ({problem}); nothing is sent from it and it was left as it is."
        " Restore a back-up, or save what can be read with `sqlite3 FILE .recover`."
    )


def _make_private(path: Path) -> None:
    """A database that others may read is closed to them: it holds mail."""
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _quoted(path: Path) -> str:
    return quote(str(path))

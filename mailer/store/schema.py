"""The tables, as migrations; `migrate` applies them before any process starts.

Columns carry the words of `vocabulary`; times are milliseconds since 1970 (`_ms`) or microseconds
of the boot's monotonic clock (`_us`). What keeps a mail from being sent stands in an index as well
as in its table, so that the integrity check, which compares the two, finds damage to either.
The id of a message or a batch is that of its first mail. CHECKs compare with `=`: for each row
that is written `IN (…)` would build a table of its list first, which doubles the time of a row.
"""

from __future__ import annotations

import secrets
from typing import Final

import sqlite_utils
from sqlite_utils import Migrations

from mailer.store.first_tables import FIRST

APPLICATION_ID: Final = 0x6D61696C
"""Marks the file as mailer's own (https://www.sqlite.org/pragma.html#pragma_application_id)."""

OLDEST_PROGRAM: Final = 0
"""How many migrations a program must know to work on this schema: all of the release before.

From one release to the next they only add, so that the programs of the release before work on:
while an upgrade runs, and after one that was taken back. 0: there is no release before.
"""

migrations = Migrations("mailer")


@migrations()
def m001_first(db: sqlite_utils.Database) -> None:
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for statement in FIRST.split(";\n\n"):
        db.execute(statement)
    db.execute(
        "INSERT INTO meta (id, commits, last_mail_id, signing_key, boot_id)"
        " VALUES (1, 0, 0, ?, '')",
        [secrets.token_bytes(32)],
    )


@migrations()
def m002_shelves(db: sqlite_utils.Database) -> None:
    db.execute("""
        CREATE TABLE shelves (
            plugin TEXT NOT NULL,
            key TEXT NOT NULL,
            value BLOB NOT NULL,
            PRIMARY KEY (plugin, key)
        ) STRICT, WITHOUT ROWID
    """)


@migrations()
def m003_learnt_rate(db: sqlite_utils.Database) -> None:
    db.execute("ALTER TABLE transports ADD COLUMN too_fast_per_second REAL")
    db.execute("ALTER TABLE transports ADD COLUMN too_fast_at_us INTEGER")


@migrations()
def m004_refused_by_provider_s_list(db: sqlite_utils.Database) -> None:
    db.execute("ALTER TABLE events ADD COLUMN already_suppressed INTEGER NOT NULL DEFAULT 0")


@migrations()
def m005_cursors(db: sqlite_utils.Database) -> None:
    for statement in _CURSORS.split(";\n\n"):
        db.execute(statement)


_CURSORS = """
CREATE TABLE cursors (
    plugin TEXT PRIMARY KEY,
    event INTEGER NOT NULL,
    live INTEGER NOT NULL,
    failing INTEGER,
    failures INTEGER NOT NULL DEFAULT 0,
    retry_at_ms INTEGER NOT NULL DEFAULT 0,
    detail TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    plugin TEXT NOT NULL,
    event INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    detail TEXT NOT NULL,
    failed_at_ms INTEGER NOT NULL,
    retry INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (plugin, event)
) STRICT, WITHOUT ROWID;

CREATE INDEX dead_letters_retry ON dead_letters (plugin, event) WHERE retry = 1;

CREATE INDEX dead_letters_age ON dead_letters (failed_at_ms)
"""


@migrations()
def m006_hold(db: sqlite_utils.Database) -> None:
    db.execute("ALTER TABLE meta ADD COLUMN backed_up_at_ms INTEGER")
    db.execute("ALTER TABLE meta ADD COLUMN held_since_ms INTEGER")
    db.execute("ALTER TABLE meta ADD COLUMN held_after_event INTEGER")


@migrations()
def m007_halts_and_approvals(db: sqlite_utils.Database) -> None:
    db.execute("ALTER TABLE transports ADD COLUMN halted_at_ms INTEGER")
    db.execute("ALTER TABLE transports ADD COLUMN notice TEXT NOT NULL DEFAULT ''")
    db.execute("""
        CREATE TABLE approvals (
            setting TEXT NOT NULL,
            value TEXT NOT NULL,
            asked_at_ms INTEGER NOT NULL,
            PRIMARY KEY (setting, value)
        ) STRICT, WITHOUT ROWID
    """)


@migrations()
def m008_idle_plugins(db: sqlite_utils.Database) -> None:
    db.execute("CREATE TABLE idle_plugins (plugin TEXT PRIMARY KEY) STRICT, WITHOUT ROWID")


@migrations()
def m009_taken_by_another_transport(db: sqlite_utils.Database) -> None:
    # `transport` names the queue a mail waits in, `via` the transport its last claim was for.
    db.execute("ALTER TABLE mails ADD COLUMN via TEXT")
    for in_flight in ("sender", "settle_at_ms"):
        db.execute(f"UPDATE mails SET via = transport WHERE {in_flight} IS NOT NULL")


@migrations()
def m010_limits(db: sqlite_utils.Database) -> None:
    db.execute("ALTER TABLE slots ADD COLUMN domain_way TEXT")
    db.execute("ALTER TABLE slots ADD COLUMN domain_next_us INTEGER")
    db.execute(
        "CREATE INDEX slots_domain ON slots (domain_way, until_us, recipients)"
        " WHERE domain_way IS NOT NULL"
    )
    db.execute("ALTER TABLE meta ADD COLUMN windows_ahead_us INTEGER")
    db.execute("""
        CREATE TABLE window_counts (
            way TEXT NOT NULL,
            window_s INTEGER NOT NULL,
            part INTEGER NOT NULL,
            recipients INTEGER NOT NULL,
            PRIMARY KEY (way, window_s, part)
        ) STRICT, WITHOUT ROWID
    """)


@migrations()
def m011_http_request_ids(db: sqlite_utils.Database) -> None:
    db.execute("ALTER TABLE batches ADD COLUMN http_request_id TEXT NOT NULL DEFAULT ''")


@migrations()
def m012_trouble(db: sqlite_utils.Database) -> None:
    db.execute("ALTER TABLE transports ADD COLUMN troubled_at_ms INTEGER")


@migrations()
def m013_measures(db: sqlite_utils.Database) -> None:
    # fmt: off
    counters = (
        "accepted", "pending", "sent", "delivered", "bounced", "complained", "failed", "uncertain",
        "cancelled", "suppressed",
    )
    # fmt: on
    for counter in counters:
        db.execute(f"ALTER TABLE queue_depths ADD COLUMN {counter} INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE meta ADD COLUMN last_backup_at_ms INTEGER")
    db.execute("""
        CREATE TABLE measures (
            metric TEXT NOT NULL,
            labels TEXT NOT NULL,
            up_to_us INTEGER NOT NULL,
            total REAL NOT NULL,
            PRIMARY KEY (metric, labels, up_to_us)
        ) STRICT, WITHOUT ROWID
    """)

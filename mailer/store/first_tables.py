"""The tables and indexes of the first schema; what came later stands in `schema`."""

from __future__ import annotations

from typing import Final

FIRST: Final = """
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    commits INTEGER NOT NULL,
    last_mail_id INTEGER NOT NULL,
    signing_key BLOB NOT NULL,
    boot_id TEXT NOT NULL
) STRICT;

CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    batch_id TEXT NOT NULL UNIQUE,
    mails INTEGER NOT NULL,
    transport TEXT NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    due_at_ms INTEGER NOT NULL,
    prune_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX batches_prune ON batches (prune_at_ms);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    topic INTEGER NOT NULL,
    lane TEXT NOT NULL,
    expired INTEGER NOT NULL DEFAULT 0,
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

CREATE INDEX messages_expiry ON messages (expires_at_ms)
    WHERE expires_at_ms IS NOT NULL AND expired = 0;

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
    parked INTEGER NOT NULL DEFAULT 0,
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

CREATE INDEX topics_cancelling ON topics (cancelling) WHERE cancelling > 0;

CREATE INDEX topics_parked ON topics (id) WHERE parked = 1;

CREATE INDEX topics_held ON topics (paused, cancelling);

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
    lane TEXT NOT NULL CHECK (lane = 'interactive' OR lane = 'bulk'),
    state TEXT NOT NULL CHECK (state = 'pending' OR state = 'sending' OR state = 'sent'
        OR state = 'delivered' OR state = 'bounced' OR state = 'complained' OR state = 'failed'
        OR state = 'uncertain' OR state = 'cancelled' OR state = 'suppressed'),
    waits_for TEXT CHECK (waits_for = 'turn' OR waits_for = 'due_time' OR waits_for = 'topic'
        OR waits_for = 'alone'),
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
    detail TEXT,
    CHECK ((state = 'pending') = (waits_for IS NOT NULL)),
    CHECK (cancel_requested IN (0, 1))
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

CREATE INDEX suppressions_added ON suppressions (created_at_ms);

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

"""Messages: the content that the mails of one message share, stored once.

A digest guards it against bits that changed on disk, since SQLite keeps no checksums.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from mailer.errors import StoreDamaged
from mailer.mail import Attachment, Content
from mailer.store.connection import Database
from mailer.vocabulary import Lane

_INSERT: Final = """
INSERT INTO messages (id, batch, topic, lane, expires_at_ms, subject, html, text, from_email,
    reply_to, headers, tags, track_opens, track_clicks, templated, digest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_INSERT_ATTACHMENT: Final = """
INSERT INTO attachments (message, position, filename, content_type, content_id, content)
VALUES (?, ?, ?, ?, ?, ?)
"""

_SELECT: Final = """
SELECT g.expires_at_ms, g.subject, g.html, g.text, g.from_email, g.reply_to, g.headers, g.tags,
    g.track_opens, g.track_clicks, g.templated, g.digest, t.topic_id, g.lane
FROM messages g JOIN topics t ON t.id = g.topic
WHERE g.id = ?
"""

_SELECT_ATTACHMENTS: Final = """
SELECT filename, content_type, content_id, content FROM attachments
WHERE message = ? ORDER BY position
"""


class Messages:
    """Content by message."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, contents: Sequence[tuple[int, int, int, Content]]) -> None:
        """Store (message, batch, topic, content) each, in the running transaction."""
        rows = []
        attached: list[tuple[Any, ...]] = []
        for message, batch, topic, content in contents:
            columns = (
                content.expires_at_ms,
                content.subject,
                content.html,
                content.text,
                content.from_email,
                content.reply_to,
                json.dumps(content.headers),
                json.dumps(dict(content.tags)),
                int(content.track_opens),
                int(content.track_clicks),
                int(content.templated),
            )
            files = [
                (a.filename, a.content_type, a.content_id, a.content) for a in content.attachments
            ]
            lane = str(content.lane)
            digest = _digest((*columns, content.topic_id or "", lane), files)
            rows.append((message, batch, topic, lane, *columns, digest))
            attached += [(message, n, *file) for n, file in enumerate(files)]
        self._db.many(_INSERT, rows)
        self._db.many(_INSERT_ATTACHMENT, attached)

    def get(self, message: int) -> Content:
        """A message's content. Raises StoreDamaged when it is not what was accepted."""
        row = self._db.one(_SELECT, (message,))
        attachments = self._db.all(_SELECT_ATTACHMENTS, (message,))
        if row is None or _digest((*row[:11], *row[12:]), attachments) != row[11]:
            raise StoreDamaged(
                f"{self._db.path} is damaged: the content of message {message} is not what was"
                " accepted. Nothing more is sent from it; restore a back-up."
            )
        return _content(row, attachments)

    def remove(self, ids: tuple[int, int]) -> None:
        """Remove the messages from the first of these ids to the last."""
        self._db.run("DELETE FROM attachments WHERE message BETWEEN ? AND ?", ids)
        self._db.run("DELETE FROM messages WHERE id BETWEEN ? AND ?", ids)


def _digest(columns: tuple[Any, ...], attachments: list[tuple[Any, ...]]) -> bytes:
    return blake2b(repr((columns, attachments)).encode(), digest_size=16).digest()


def _content(row: tuple[Any, ...], attachments: list[tuple[Any, ...]]) -> Content:
    (expires_at_ms, subject, html, text, from_email, reply_to, headers, tags) = row[:8]
    (track_opens, track_clicks, templated, _, topic_id, lane) = row[8:]
    return Content(
        subject=subject,
        html=html,
        text=text,
        topic_id=topic_id or None,
        from_email=from_email,
        reply_to=reply_to,
        headers=tuple((name, value) for name, value in json.loads(headers)),
        tags=json.loads(tags),
        attachments=tuple(
            Attachment(filename, content_type, content, content_id)
            for filename, content_type, content_id, content in attachments
        ),
        lane=Lane(lane),
        track_opens=bool(track_opens),
        track_clicks=bool(track_clicks),
        templated=bool(templated),
        expires_at_ms=expires_at_ms,
    )

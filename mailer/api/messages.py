"""Accepting mail: parse, check, store in one durable transaction, and only then answer 200.

With an `Idempotency-Key` the answer is stored in that same transaction; the same request repeated
within 48 hours gets it again, and nothing is sent twice.
"""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus
from typing import Final

import falcon.asgi

from mailer.api import times
from mailer.api.answers import Accepted, AcceptedMessage, encoded
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.api.problems import RETRY_AFTER_S, FaultAnswer, Refused
from mailer.api.requests import MessagesBody, parse
from mailer.api.validate import Checker, Draft
from mailer.errors import Fault, InvalidRequest
from mailer.mail import NewBatch
from mailer.routing import preferred
from mailer.store import Store
from mailer.store.idempotency import KeptAnswer

LARGE_BODY_BYTES: Final = 32 * 1024
"""From here on a body is checked beside the event loop, not in it."""
MIN_FREE_BYTES: Final = 4 * 1024 * 1024
"""Less room than this is left to those who record what became of mail already accepted."""

_KEY: Final = re.compile(r"[ -~]{1,255}")


class Messages:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._checker = Checker(
            transports=backend.transports,
            ways=backend.settings.ways,
            default_from=backend.settings.default_from,
            track_opens=backend.settings.track_opens,
        )

    async def on_post(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        began_us = self._backend.clock.mono_us()
        key = _idempotency_key(req)
        async with self._backend.bodies.json(req) as raw:
            answer = None
            fingerprint = b""
            if key is not None:
                fingerprint = hashlib.sha256(raw).digest()
                answer = await self._backend.reader.run(
                    lambda store: _kept(store, req.subject, key, fingerprint)
                )
            if answer is None:
                answer = await self._accept(req, raw, key, fingerprint, began_us)
        body, replayed = answer
        resp.content_type = "application/json"
        resp.data = body
        if replayed:
            resp.set_header("Idempotency-Replayed", "true")

    async def _accept(
        self, req: ApiRequest, raw: bytes, key: str | None, fingerprint: bytes, began_us: int
    ) -> tuple[bytes, bool]:
        backend = self._backend
        now_ms = backend.clock.wall_ms()
        if len(raw) < LARGE_BODY_BYTES:
            draft = self._draft(raw, now_ms)
        else:
            draft = await backend.aside(self._draft, raw, now_ms)
        if backend.free_bytes() < MIN_FREE_BYTES + 2 * len(raw):
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            text = "the disk is nearly full; nothing of this request was stored"
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, text, headers)
        batch_id = backend.batch_ids.new()
        max_queued = backend.settings.max_queued

        def job(store: Store) -> tuple[bytes, bool]:
            if key is not None:
                kept = _kept(store, req.subject, key, fingerprint)
                if kept is not None:
                    return kept
            _store(store, draft, batch_id, now_ms, req.http_request_id, max_queued)
            duration_ms = (backend.clock.mono_us() - began_us) // 1000
            body = encoded(_answer(draft, batch_id, now_ms, duration_ms))
            if key is not None:
                answer = KeptAnswer(fingerprint, HTTPStatus.OK, body)
                store.idempotency.keep(req.subject, key, answer, now_ms=now_ms)
            return body, False

        answer, replayed = await backend.writer.accept(job)
        if not replayed:
            backend.measured.accepted(backend.clock.mono_us() - began_us)
            req.log_fields = {"batch_id": batch_id, "mails": draft.mails, "topic": _topic(draft)}
        return answer, replayed

    def _draft(self, raw: bytes, now_ms: int) -> Draft:
        body, faults = parse(raw, MessagesBody)
        return self._checker.check(body, faults, now_ms=now_ms)


def _topic(draft: Draft) -> str | None:
    """The topic of all its messages, if they have one in common."""
    topics = {message.content.topic_id for message in draft.messages}
    return topics.pop() if len(topics) == 1 else None


def _store(
    store: Store, draft: Draft, batch_id: str, now_ms: int, http_request_id: str, max_queued: int
) -> None:
    batch = NewBatch(
        batch_id=batch_id,
        messages=tuple(message for message in draft.messages if message.recipients),
        transport=draft.transport,
        due_at_ms=draft.due_at_ms,
        accepted_at_ms=now_ms,
        http_request_id=http_request_id,
    )
    store.batches.accept(batch, max_queued=max_queued)


def _answer(draft: Draft, batch_id: str, now_ms: int, duration_ms: int) -> Accepted:
    messages = []
    first = 0
    for message, positions in zip(draft.messages, draft.positions, strict=True):
        ids = [None if n is None else f"{batch_id}-{first + n}" for n in positions]
        way = preferred(message.transport or draft.transport)
        messages.append(AcceptedMessage(message.content.topic_id, way, ids))
        first += len(message.recipients)
    return Accepted(
        total=draft.total,
        success=draft.mails,
        errors=draft.errors,
        duration_ms=duration_ms,
        scheduled=draft.due_at_ms > now_ms,
        batch_id=batch_id,
        due_at=times.written(draft.due_at_ms),
        duplicates=draft.duplicates,
        skipped=[FaultAnswer(f.path, f.code, f.message) for f in draft.skipped],
        messages=messages,
    )


def _kept(store: Store, subject: str, key: str, fingerprint: bytes) -> tuple[bytes, bool] | None:
    """The first answer under this key. Raises Refused when it was given to another body."""
    kept = store.idempotency.find(subject, key)
    if kept is None:
        return None
    if kept.fingerprint != fingerprint:
        text = "this Idempotency-Key was used with another body; use a new key for a new request"
        raise Refused(HTTPStatus.CONFLICT, text)
    return kept.body, True


def _idempotency_key(req: ApiRequest) -> str | None:
    key = req.get_header("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        text = "1 to 255 printable ASCII characters"
        raise InvalidRequest([Fault("Idempotency-Key", "header_value_invalid", text)])
    return key

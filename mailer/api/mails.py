"""Mails one by one: where each is, why it waits, what became of it; cancelling and rescheduling."""

from __future__ import annotations

from typing import Any

import falcon.asgi

from mailer.api import times
from mailer.api.answers import (
    AttemptAnswer,
    EventAnswer,
    MailAnswer,
    MailCancelled,
    MailHistory,
    MailList,
    give,
)
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.api.query import Query
from mailer.api.requests import RescheduleBody, parse
from mailer.errors import Fault, InvalidRequest, NotFound
from mailer.store import Store
from mailer.store.mails import Attempt, LoggedEvent, Mail
from mailer.vocabulary import EventType, State

MAX_PAGE = 1_000
FILTERS = ("topic_id", "recipient", "state", "batch_id", "after", "limit")


class Mails:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        query = Query(req.query_string, FILTERS)
        topic_id, batch_id = query.text("topic_id"), query.text("batch_id")
        state = query.choice("state", State)
        after, limit = query.text("after"), query.integer("limit", 1, MAX_PAGE, 100)
        recipient = query.address("recipient")
        query.end()

        def page(store: Store) -> list[Mail]:
            after_id = store.mails.find_id(after) if after else 0
            if after_id is None:
                text = "there is no such mail; take `next` of the page before"
                raise InvalidRequest([Fault("after", "parameter_invalid", text)])
            return store.mails.list(
                topic_id=topic_id,
                recipient=recipient,
                state=state,
                batch_id=batch_id,
                after=after_id,
                limit=limit,
            )

        mails = await self._backend.lister.run(page)
        following = mails[-1].request_id if len(mails) == limit else None
        give(resp, MailList([_described(mail) for mail in mails], following))


class OneMail:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response, request_id: str) -> None:
        def look(store: Store) -> tuple[Mail, list[Attempt], list[LoggedEvent]]:
            mail = store.mails.get(request_id)
            if mail is None:
                raise NotFound("there is no such mail")
            return mail, store.mails.attempts(mail.id), store.mails.events(mail.id)

        mail, attempts, events = await self._backend.reader.run(look)
        give(resp, _history(mail, attempts, events))

    async def on_delete(self, req: ApiRequest, resp: falcon.asgi.Response, request_id: str) -> None:
        """A mail in flight can't be called back; it is cancelled if it comes back by itself."""
        now_ms = self._backend.clock.wall_ms()
        mail = await self._backend.writer.run(
            lambda store: store.mails.cancel(request_id, now_ms=now_ms)
        )
        cancelled = int(mail.state is State.CANCELLED)
        give(resp, MailCancelled("ok", cancelled, 1 - cancelled, _described(mail)))

    async def on_patch(self, req: ApiRequest, resp: falcon.asgi.Response, request_id: str) -> None:
        now_ms = self._backend.clock.wall_ms()
        async with self._backend.bodies.json(req) as raw:
            body, faults = parse(raw, RescheduleBody)
        due_at_ms = now_ms
        if body.scheduled_at:
            try:
                due_at_ms = max(now_ms, times.parse(body.scheduled_at, now_ms=now_ms))
            except times.TimeError as error:
                faults.append(Fault("scheduled_at", error.code, str(error)))
        if faults:
            raise InvalidRequest(faults)
        mail = await self._backend.writer.run(
            lambda store: store.mails.reschedule(request_id, due_at_ms, now_ms=now_ms),
            rings=True,
        )
        give(resp, _described(mail))


def _described(mail: Mail) -> MailAnswer:
    return MailAnswer(**_fields(mail))


def _history(mail: Mail, attempts: list[Attempt], events: list[LoggedEvent]) -> MailHistory:
    accepted = EventAnswer(EventType.ACCEPTED, times.written(mail.accepted_at_ms), "api", "")
    return MailHistory(
        **_fields(mail),
        attempts=[
            AttemptAnswer(
                attempt=a.attempt,
                transport=a.transport,
                started_at=times.written(a.started_at_ms),
                ended_at=times.written(a.ended_at_ms),
                outcome=a.outcome,
                detail=a.detail,
                provider_id=a.provider_id,
            )
            for a in attempts
        ],
        events=[
            accepted,
            *(EventAnswer(e.type, times.written(e.at_ms), e.source, e.detail) for e in events),
        ],
    )


def _fields(mail: Mail) -> dict[str, Any]:
    return {
        "request_id": mail.request_id,
        "batch_id": mail.batch_id,
        "topic_id": mail.topic_id,
        "recipient": mail.recipient,
        "name": mail.name,
        "subject": mail.subject,
        "state": mail.state,
        "waits_for": mail.waits_for,
        "lane": mail.lane,
        "transport": mail.transport,
        "accepted_at": times.written(mail.accepted_at_ms),
        "due_at": times.written(mail.due_at_ms),
        "state_at": times.written(mail.state_at_ms),
        "provider_id": mail.provider_id,
        "detail": mail.detail,
        "http_request_id": mail.http_request_id,
    }

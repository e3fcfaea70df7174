"""Topics: their counters, cancelling, pausing, resuming and retrying all mail of one.

A topic's id may contain slashes, so it is all of the path that follows, percent-decoded; for a POST
the last segment is the action. What changes many mails does so in steps, so that nobody else who
writes waits for long.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import falcon.asgi

from mailer.api import times
from mailer.api.answers import Cancelled, Opens, TopicAnswer, TopicList, TopicSteered, give
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.api.problems import Refused
from mailer.api.query import Query
from mailer.errors import NotFound
from mailer.store import Store
from mailer.store.topics import CancelStep, Topic
from mailer.vocabulary import GIVEN_UP, HANDED_OVER, REFERENCE_EVENTS, REFERENCE_STATES, State

MAX_PAGE: Final = 1_000
ACTIONS: Final = ("pause", "resume", "retry")


class Topics:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        query = Query(req.query_string, ("after", "limit"))
        after, limit = query.text("after") or "", query.integer("limit", 1, MAX_PAGE, 100)
        query.end()
        topics = await self._backend.lister.run(
            lambda store: store.topics.list(after=after, limit=limit)
        )
        following = topics[-1].topic_id if len(topics) == limit else None
        give(resp, TopicList([described(topic) for topic in topics], following))


class OneTopic:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response, topic_id: str) -> None:
        topic = await self._backend.reader.run(lambda store: store.topics.get(topic_id))
        if topic is None or not topic_id:
            raise NotFound("there is no such topic: no mail was ever accepted with it")
        give(resp, described(topic))

    async def on_delete(self, req: ApiRequest, resp: falcon.asgi.Response, topic_id: str) -> None:
        """After the answer nothing of it is handed over that was accepted before the call."""
        now_ms = self._backend.clock.wall_ms()

        def begin(store: Store) -> CancelStep:
            _require_named(topic_id)
            store.topics.begin_cancel(topic_id)
            return store.topics.cancel(topic_id, after=0, now_ms=now_ms)

        step = await self._backend.writer.run(begin)
        cancelled = step.cancelled
        while step.after:
            after = step.after
            step = await self._backend.writer.run(
                lambda store, after=after: store.topics.cancel(  # type: ignore[misc]
                    topic_id, after=after, now_ms=now_ms
                )
            )
            cancelled += step.cancelled
        give(resp, Cancelled("ok", cancelled, step.in_flight, step.already_sent))

    async def on_post(self, req: ApiRequest, resp: falcon.asgi.Response, topic_id: str) -> None:
        topic_id, _, action = topic_id.rpartition("/")
        match action:
            case "pause":
                answer = await self._pause(topic_id)
            case "resume":
                answer = await self._resume(topic_id)
            case "retry":
                answer = await self._retry(topic_id)
            case _:
                text = f"a topic's actions are {', '.join(ACTIONS)}"
                raise Refused(HTTPStatus.NOT_FOUND, text)
        give(resp, answer)

    async def _pause(self, topic_id: str) -> TopicSteered:
        def pause(store: Store) -> Topic:
            return store.topics.pause(_require_named(topic_id))

        return _steered(await self._backend.writer.run(pause))

    async def _resume(self, topic_id: str) -> TopicSteered:
        now_ms = self._backend.clock.wall_ms()

        def begin(store: Store) -> int:
            store.topics.resume(_require_named(topic_id))
            return store.topics.unpark(topic_id, after=0, now_ms=now_ms)

        after = await self._backend.writer.run(begin, rings=True)
        while after:
            after = await self._backend.writer.run(
                lambda store, after=after: store.topics.unpark(  # type: ignore[misc]
                    topic_id, after=after, now_ms=now_ms
                ),
                rings=True,
            )
        return _steered(await self._topic(topic_id))

    async def _retry(self, topic_id: str) -> TopicSteered:
        now_ms = self._backend.clock.wall_ms()
        mails, after = await self._backend.writer.run(
            lambda store: store.topics.retry(_require_named(topic_id), after=0, now_ms=now_ms),
            rings=True,
        )
        while after:
            more, after = await self._backend.writer.run(
                lambda store, after=after: store.topics.retry(  # type: ignore[misc]
                    topic_id, after=after, now_ms=now_ms
                ),
                rings=True,
            )
            mails += more
        return _steered(await self._topic(topic_id), retried=mails)

    async def _topic(self, topic_id: str) -> Topic:
        topic = await self._backend.reader.run(lambda store: store.topics.get(topic_id))
        if topic is None:
            raise NotFound(f"there is no topic {topic_id}")
        return topic


def described(topic: Topic) -> TopicAnswer:
    counters = topic.counters
    return TopicAnswer(
        request_counts={
            word: sum(counters[state] for state in states)
            for word, states in REFERENCE_STATES.items()
        },
        result_counts={word: counters[name] for word, name in REFERENCE_EVENTS.items()},
        topic_id=topic.topic_id,
        paused=topic.paused,
        total=counters["total"],
        success=sum(counters[state] for state in HANDED_OVER),
        failure=sum(counters[state] for state in GIVEN_UP),
        opens=Opens(counters["opens"], counters["opens_total"], counters["opens_automated"]),
        clicks=counters["clicks"],
        unsubscribes=counters["unsubscribes"],
        states={state: counters[state] for state in State},
        first_due_at=times.written_or_none(topic.first_due_at_ms),
        last_sent_at=times.written_or_none(topic.last_sent_at_ms),
    )


def _steered(topic: Topic, retried: int = 0) -> TopicSteered:
    in_flight = topic.counters[State.SENDING] + topic.counters[State.UNCERTAIN]
    return TopicSteered("ok", topic.paused, in_flight, retried)


def _require_named(topic_id: str) -> str:
    """Mails without a topic are kept under an empty one, which is nobody's to steer."""
    if not topic_id:
        raise NotFound("there is no topic without a name")
    return topic_id

"""The event log: page by page, waiting for what is still to come if asked to."""

from __future__ import annotations

import asyncio
from typing import Final

import falcon.asgi

from mailer.api.answers import EventPage, LoggedEvent, give
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.api.logged import described
from mailer.api.query import Query
from mailer.errors import Fault, InvalidRequest
from mailer.store import Store
from mailer.store.log import Page, place_of
from mailer.vocabulary import EventType

MAX_PAGE: Final = 1_000
MAX_WAIT_S: Final = 50
"""Below the 60 s after which proxies usually give a request up."""
END: Final = "end"
FILTERS: Final = ("after", "topic_id", "type", "limit", "wait")


class Events:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        query = Query(req.query_string, FILTERS)
        after, topic_id = query.text("after"), query.text("topic_id")
        type_ = query.choice("type", EventType)
        limit = query.integer("limit", 1, MAX_PAGE, 100)
        wait_s = query.integer("wait", 0, MAX_WAIT_S, 0)
        query.end()

        async def read(place: int) -> Page:
            return await self._backend.lister.run(
                lambda store: store.log.page(place, limit=limit, type_=type_, topic_id=topic_id)
            )

        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        page = await read(await self._backend.lister.run(lambda store: _place(store, after)))
        while not page.events and (left_s := deadline - clock()) > 0:
            if not page.more and not await self._backend.watch.beyond(page.end, left_s):
                break
            page = await read(page.end)
        events = [LoggedEvent(**described(event)) for event in page.events]
        give(resp, EventPage(events, str(page.end), page.more))


def _place(store: Store, after: str | None) -> int:
    """Where a page begins. Raises InvalidRequest."""
    if after is None:
        return 0
    end = store.log.end()
    if after == END:
        return end
    try:
        place = place_of(after)
    except ValueError:
        place = end + 1
    if place > end:
        text = f"not of this log: take `next` of a page, the id of an event, or {END}"
        raise InvalidRequest([Fault("after", "parameter_invalid", text)])
    return place

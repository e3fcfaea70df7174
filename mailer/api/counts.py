"""How much was sent, and how much the provider still allows."""

from __future__ import annotations

import falcon.asgi

from mailer.api.answers import SentCounts, give
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.api.query import Query
from mailer.hookspecs import Quota
from mailer.store import Store

MAX_HOURS = 8760


class SentCount:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        query = Query(req.query_string, ("hours",))
        hours = query.integer("hours", 1, MAX_HOURS, 24)
        query.end()
        now_ms = self._backend.clock.wall_ms()
        transport = self._backend.settings.transport_name

        def look(store: Store) -> SentCounts:
            known = store.transports.get(transport)
            quota = known.quota if known else Quota()
            remaining, _ = store.transports.left_today(transport, now_ms)
            return SentCounts(
                count=store.transports.sent_since(now_ms // 60_000 - hours * 60),
                max_24h=quota.max_24h,
                remaining_24h=remaining,
                max_per_second=quota.max_per_second,
            )

        give(resp, await self._backend.reader.run(look))

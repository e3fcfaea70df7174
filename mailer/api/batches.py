"""Batches: what one request brought, looked at and cancelled as a whole."""

from __future__ import annotations

import falcon.asgi

from mailer.api import times
from mailer.api.answers import BatchAnswer, BatchCancelled, give
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.errors import NotFound


class OneBatch:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response, batch_id: str) -> None:
        batch = await self._backend.lister.run(lambda store: store.batches.get(batch_id))
        if batch is None:
            raise NotFound("there is no such batch")
        answer = BatchAnswer(
            batch_id=batch.batch_id,
            transports=batch.transports,
            accepted_at=times.written(batch.accepted_at_ms),
            due_at=times.written(batch.due_at_ms),
            http_request_id=batch.http_request_id,
            total=batch.total,
            states=batch.states,
        )
        give(resp, answer)

    async def on_delete(self, req: ApiRequest, resp: falcon.asgi.Response, batch_id: str) -> None:
        """After the answer nothing of it is handed over that was not in flight."""
        now_ms = self._backend.clock.wall_ms()
        cancelled, in_flight, finished = await self._backend.writer.run(
            lambda store: store.mails.cancel_batch(batch_id, now_ms=now_ms)
        )
        give(resp, BatchCancelled("ok", cancelled, in_flight, finished))

"""Is the process alive, and can it serve? For monitors and proxies; open to everybody."""

from __future__ import annotations

from typing import Final

import falcon.asgi

from mailer.api.answers import Healthy, Ready, give
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.store import Store

READY_WITHIN_S: Final = 2.0


class Health:
    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        give(resp, Healthy())


class Readiness:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        await self._backend.reader.run(Store.ping, wait_s=READY_WITHIN_S)
        give(resp, Ready())

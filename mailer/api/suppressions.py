"""The list of addresses that are not to be written to: looking, adding, removing."""

from __future__ import annotations

import falcon.asgi

from mailer.api import entries, times
from mailer.api.answers import SuppressionAnswer, SuppressionChanged, SuppressionList, give
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.api.query import Query
from mailer.api.requests import SuppressionBody, parse
from mailer.errors import Fault, InvalidRequest
from mailer.mail import Suppression
from mailer.vocabulary import SuppressionReason

MAX_PAGE = 1_000


class Suppressions:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        query = Query(req.query_string, ("email", "after", "limit"))
        email = query.address("email")
        after, limit = query.text("after") or "", query.integer("limit", 1, MAX_PAGE, 100)
        query.end()
        # An address has no space, so the first one parts address and scope.
        after_email, _, after_scope = after.partition(" ")
        found = await self._backend.lister.run(
            lambda store: store.suppressions.list(
                email=email, after=(after_email, after_scope), limit=limit
            )
        )
        following = f"{found[-1].email} {found[-1].scope}" if len(found) == limit else None
        give(resp, SuppressionList([_described(entry) for entry in found], following))

    async def on_post(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        async with self._backend.bodies.json(req) as raw:
            body, faults = parse(raw, SuppressionBody)
        email = _checked(body, faults)
        now_ms = self._backend.clock.wall_ms()
        added = await self._backend.writer.run(
            lambda store: store.suppressions.add(
                email,
                scope=body.scope,
                reason=SuppressionReason.MANUAL,
                detail=body.detail,
                now_ms=now_ms,
            )
        )
        give(resp, SuppressionChanged("ok", int(added)))

    async def on_delete(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        query = Query(req.query_string, ("email", "scope"))
        email, scope = query.address("email", required=True), query.given("scope")
        query.end()
        removed = await self._backend.writer.run(
            lambda store: store.suppressions.remove(email or "", scope=scope)
        )
        give(resp, SuppressionChanged("ok", removed))


def _checked(body: SuppressionBody, faults: list[Fault]) -> str:
    """The address as it is stored. Raises InvalidRequest with all faults, the types' included."""
    # What has a wrong type is None, whatever its annotation says, and named already.
    email, more = entries.checked(body.email, body.scope or "", body.detail or "")
    if faults or more:
        raise InvalidRequest([*faults, *more])
    return email


def _described(entry: Suppression) -> SuppressionAnswer:
    return SuppressionAnswer(
        email=entry.email,
        scope=entry.scope,
        reason=entry.reason,
        detail=entry.detail,
        created_at=times.written(entry.created_at_ms),
    )

"""A request id for every request, and one log line: method, route, status, milliseconds.

The line has the route's template, not the path: tokens, addresses and topics stay out of the log.
Where a caller was not let in it has the address it came from, for those who watch the door.
"""

from __future__ import annotations

import logging
import random
import re
from typing import Any, Final

import falcon.asgi

from mailer.api.bodies import ApiRequest
from mailer.clock import Clock

log = logging.getLogger("mailer.access")

NOT_LET_IN: Final = (401, 403, 429)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Observe:
    """Falcon middleware."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def process_request(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        req.began_us = self._clock.mono_us()
        given = req.get_header("X-Request-ID", default="")
        made = f"{random.getrandbits(64):016x}"
        resp.set_header("X-Request-ID", given if _REQUEST_ID.fullmatch(given) else made)

    async def process_response(
        self, req: ApiRequest, resp: falcon.asgi.Response, resource: Any, succeeded: bool
    ) -> None:
        if log.isEnabledFor(logging.INFO):
            log.info(
                "%s %s %s %d ms id=%s%s",
                req.method,
                req.uri_template or "-",
                resp.status_code,
                (self._clock.mono_us() - req.began_us) // 1000,
                resp.get_header("X-Request-ID"),
                f" from={req.remote_addr}" if resp.status_code in NOT_LET_IN else "",
            )

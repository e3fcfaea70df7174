"""An id for every HTTP request, and one log line: method, route, status, milliseconds.

The line has the route's template, not the path: tokens and addresses stay out of the log. Where a
caller was not let in it has the address it came from, for those who watch the door.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import falcon.asgi

from mailer.api.bodies import ApiRequest
from mailer.clock import Clock
from mailer.log_lines import http_request_id

log = logging.getLogger("mailer.access")

NOT_LET_IN: Final = (401, 403, 429)
_HTTP_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Observe:
    """Falcon middleware."""

    def __init__(self, clock: Clock, refused: Callable[[int], None]) -> None:
        """`refused` is told the status of each answer that is an error."""
        self._clock = clock
        self._refused = refused

    async def process_request(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        req.began_us = self._clock.mono_us()
        given = req.get_header("X-Request-ID", default="")
        taken = _HTTP_REQUEST_ID.fullmatch(given) is not None
        req.http_request_id = given if taken else f"{random.getrandbits(64):016x}"
        http_request_id.set(req.http_request_id)
        resp.set_header("X-Request-ID", req.http_request_id)

    async def process_response(
        self, req: ApiRequest, resp: falcon.asgi.Response, resource: Any, succeeded: bool
    ) -> None:
        if resp.status_code >= HTTPStatus.BAD_REQUEST:
            self._refused(resp.status_code)
        if log.isEnabledFor(logging.INFO):
            told = {
                "status": resp.status_code,
                "duration_ms": (self._clock.mono_us() - req.began_us) // 1000,
                "caller": req.subject,
                **req.log_fields,
            }
            if resp.status_code in NOT_LET_IN:
                told["client"] = req.remote_addr
            log.info("%s %s", req.method, req.uri_template or "-", extra=told)

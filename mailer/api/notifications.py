"""Callbacks of mail providers: a plugin verifies and translates them, then they are stored.

Answered 200 only after the commit. What may pass by itself is answered 5xx, so that the provider
tries again; SNS does not after a 4xx.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Final

import falcon.asgi

from mailer import plugins
from mailer.api.answers import Learnt, give
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.api.learner import Learner
from mailer.api.problems import RETRY_AFTER_S, Refused
from mailer.errors import ApprovalNeeded, InvalidRequest
from mailer.hookspecs import ProviderEvent
from mailer.reporting import unexpected

log = logging.getLogger("mailer.api")

MAX_NOTIFICATION_BYTES: Final = 512 * 1024
"""SNS sends at most 256 KiB of message, and its envelope."""
VERIFY_WITHIN_S: Final = 10.0
VERIFYING: Final = 64
"""More at once are told to come again."""


class Notifications:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._learner = Learner(backend.writer, backend.clock)
        self._plugins = list(plugins.one_by_one(backend.plugins, "mailer_notifications"))
        # Verifying may fetch a certificate, so it has threads of its own.
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="notifications")
        self._verifying = 0

    async def on_post(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        async with self._backend.bodies.raw(req, MAX_NOTIFICATION_BYTES) as body:
            events = await self._verified(dict(req.headers_lower), body)
        if events is None:
            raise Refused(HTTPStatus.FORBIDDEN, "no installed plugin recognises this notification")
        new = await self._learner.learn(events) if events else 0
        give(resp, Learnt("ok", new))

    async def _verified(
        self, headers: dict[str, str], body: bytes
    ) -> Sequence[ProviderEvent] | None:
        if self._verifying >= VERIFYING:
            raise _later("too many notifications at once")
        self._verifying += 1
        try:
            asking = asyncio.get_running_loop().run_in_executor(
                self._threads, self._ask, headers, body
            )
            return await asyncio.wait_for(asking, VERIFY_WITHIN_S)
        except InvalidRequest as error:
            raise Refused(HTTPStatus.FORBIDDEN, str(error)) from None
        except TimeoutError:
            raise _later("the notification could not be verified in time") from None
        except ApprovalNeeded as error:
            await self._note(error)
            raise _later("the provider is not known here yet; see `mailer status`") from None
        except OSError as error:
            text = f"the notification could not be verified now: {type(error).__name__}"
            raise _later(text) from None
        finally:
            self._verifying -= 1

    async def _note(self, needed: ApprovalNeeded) -> None:
        """Anybody can bring us here: what is written, and said, is little and seldom."""
        now_ms = self._backend.clock.wall_ms()
        if await self._backend.reader.run(lambda store: store.approvals.due(now_ms)):
            await self._backend.writer.run(
                lambda store: store.approvals.ask(needed.setting, needed.value, now_ms)
            )
            log.warning("%s", needed)

    def _ask(self, headers: dict[str, str], body: bytes) -> Sequence[ProviderEvent] | None:
        """What the first plugin says that knows it. One that fails keeps no other from it."""
        failed = ""
        for name, hook in self._plugins:
            try:
                found: Sequence[ProviderEvent] | None = hook(
                    settings=self._backend.settings, headers=headers, body=body
                )
            except (InvalidRequest, ApprovalNeeded, OSError):
                raise
            except Exception as error:
                unexpected(error, f"plugin {name}, asked about a notification")
                failed = name
            else:
                if found is not None:
                    return found
        if failed:
            text = f"an error of the plugin {failed}; it has been reported"
            raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, text)
        return None


def _later(detail: str) -> Refused:
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(RETRY_AFTER_S)})

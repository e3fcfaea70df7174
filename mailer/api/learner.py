"""Storing what providers tell: all that waits while one commit runs is stored by the next.

Each caller hears how much of its own was new, once that is on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from mailer.api.writer import Writer
from mailer.clock import Clock
from mailer.errors import StoreError
from mailer.hookspecs import ProviderEvent
from mailer.store import Store

_Waiting = tuple[Sequence[ProviderEvent], asyncio.Future[int]]


class Learner:
    """Used by the event loop's thread alone."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._work: asyncio.Task[None] | None = None

    async def learn(self, events: Sequence[ProviderEvent]) -> int:
        """How many of the events were new. Raises StoreUnavailable; nothing is stored then."""
        caller: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((events, caller))
        if self._work is None:
            self._work = asyncio.create_task(self._store_waiting())
        return await caller

    async def _store_waiting(self) -> None:
        while self._waiting:
            together, self._waiting = self._waiting, []
            if not await self._stored(together):
                # One of them can't be stored, and must not take the rest with it.
                for alone in together:
                    await self._stored([alone])
        self._work = None

    async def _stored(self, some: Sequence[_Waiting]) -> bool:
        """Store and tell the callers; False, and nothing done, when one alone may be at fault."""
        now_ms = self._clock.wall_ms()
        work = partial(_learn, [events for events, _ in some], now_ms)
        try:
            new = await self._writer.run(work)
        except Exception as error:
            if len(some) > 1 and not isinstance(error, StoreError):
                return False
            for _, caller in some:
                if not caller.done():
                    caller.set_exception(error)
        else:
            for (_, caller), count in zip(some, new, strict=True):
                if not caller.done():
                    caller.set_result(count)
        return True


def _learn(
    notifications: Sequence[Sequence[ProviderEvent]], now_ms: int, store: Store
) -> list[int]:
    return store.events.learn_each(notifications, now_ms=now_ms)

"""Requests that wait for the event log to go on: one look at the database for all of them.

A request that waits holds neither a thread nor a connection of the database. All are let go when
the server stops.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from mailer.errors import StoreUnavailable

LOOK_EVERY_S: Final = 0.2
MAX_WAITING: Final = 200
"""More in one process are not let wait: each is a connection that nobody else can have."""


class Watch:
    """Looks for new events while somebody waits for them."""

    def __init__(self, look: Callable[[], Awaitable[int]], stopping: asyncio.Event) -> None:
        """`look` finds the place of the newest event."""
        self._look = look
        self._stopping = stopping
        self._end = 0
        self._waiting = 0
        self._looked = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def beyond(self, place: int, within_s: float) -> bool:
        """Whether the log goes on beyond a place within that time."""
        if self._waiting >= MAX_WAITING:
            return False
        self._waiting += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on())
        try:
            async with asyncio.timeout(within_s):
                while self._end <= place and not self._stopping.is_set():
                    await self._looked.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return self._end > place

    async def _look_on(self) -> None:
        try:
            while self._waiting:
                with contextlib.suppress(StoreUnavailable):  # they wait on, and are told then
                    self._end = await self._look()
                self._looked.set()
                self._looked = asyncio.Event()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), LOOK_EVERY_S)
        finally:
            self._looking = None

"""One thread that reads for a whole API process, so that no query holds up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from mailer.errors import StoreUnavailable
from mailer.store import Store

T = TypeVar("T")

WAIT_S: Final = 10.0


class Reader:
    """Runs functions of the Store that change nothing, one after another."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._store: Store | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")

    def open(self) -> None:
        """Raises StoreError."""
        self._store = self._open_store()

    def close(self) -> None:
        self._thread.shutdown()
        if self._store is not None:
            self._store.close()

    async def run(self, work: Callable[[Store], T], *, wait_s: float = WAIT_S) -> T:
        """What `work` returns. Raises StoreUnavailable when its turn does not come in time."""
        store = self._store
        if store is None:
            raise StoreUnavailable("the database is not open")
        reading = asyncio.get_running_loop().run_in_executor(self._thread, work, store)
        try:
            return await asyncio.wait_for(reading, wait_s)
        except TimeoutError:
            raise StoreUnavailable("the database is busy") from None

"""What an API process counts and times beside its transactions, on its way to the store.

It is written with the next commit, or by one of its own when there is none for some seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mailer.errors import StoreUnavailable
from mailer.metrics import ACCEPT, REFUSALS, STARTS
from mailer.store import Store
from mailer.store.measures import Measures

WRITE_WITHIN_S: Final = 3.0


class Measured:
    """Noted in the event loop's thread, taken by the writer's."""

    def __init__(self, post: Callable[[Callable[[Store], object]], None]) -> None:
        """`post` has work done in a transaction some time; it may raise StoreUnavailable."""
        self._post = post
        self._noted: deque[Callable[[Measures], None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def started(self) -> None:
        """Count this process."""
        self._note(lambda measures: measures.add(STARTS, ("api worker",)))

    def accepted(self, took_us: int) -> None:
        """A request's mails are on disk."""
        self._note(lambda measures: measures.observe(ACCEPT, (), took_us))

    def refused(self, status: int) -> None:
        """A request was answered with an error."""
        self._note(lambda measures: measures.add(REFUSALS, (str(status),)))

    def take(self, store: Store) -> None:
        """Into the store's hands."""
        while self._noted:
            self._noted.popleft()(store.measures)

    def write(self) -> None:
        """Have a transaction made for what there is."""
        self._timer = None
        if self._noted:
            with suppress(StoreUnavailable):  # it keeps
                self._post(lambda store: store.measures.hasten())

    def _note(self, what: Callable[[Measures], None]) -> None:
        self._noted.append(what)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_WITHIN_S, self.write)

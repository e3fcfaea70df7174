"""What every resource of the API works with, and its life within one process.

Nothing here is opened before `open`: a process that forks API workers never holds the database.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, ParamSpec, TypeVar

import pluggy

from mailer.api.bodies import Bodies
from mailer.api.measured import Measured
from mailer.api.reader import Reader
from mailer.api.watch import Watch
from mailer.api.writer import Writer
from mailer.clock import Clock
from mailer.settings import Settings
from mailer.store import Store
from mailer.wake import Bell

MEASURE_EVERY_US: Final = 100_000
RANDOM_BYTES: Final = 8
IDS_AT_ONCE: Final = 64
"""Asking for random bytes gives the interpreter to another thread, which may keep it for long."""

T = TypeVar("T")
P = ParamSpec("P")


class BatchIds:
    """Ids that nobody guesses, in order of time: each has its place in the index beside the last.

    So has UUIDv7 (RFC 9562 section 5.7), which is longer than is good in a Message-ID.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._random = b""

    def new(self) -> str:
        if not self._random:
            self._random = secrets.token_bytes(RANDOM_BYTES * IDS_AT_ONCE)
        mine, self._random = self._random[:RANDOM_BYTES], self._random[RANDOM_BYTES:]
        return f"{self._clock.wall_ms():012x}{mine.hex()}"


@dataclass(slots=True, eq=False)
class Backend:
    """Settings, clock, plugins and the store's two threads."""

    settings: Settings
    clock: Clock
    plugins: pluggy.PluginManager
    transports: frozenset[str]
    """Names a request may ask for."""
    open_store: Callable[[], Store]
    batch_ids: BatchIds = field(init=False)
    reader: Reader = field(init=False)
    lister: Reader = field(init=False)
    """For what may have to look at many rows, so that quick looks need not wait."""
    writer: Writer = field(init=False)
    measured: Measured = field(init=False)
    stopping: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    """Set when the server stops: requests that wait for something are to be answered."""
    watch: Watch = field(init=False)
    signing_key: bytes = field(init=False, default=b"")
    bodies: Bodies = field(init=False)
    _measure: Callable[[], int] = field(init=False, default=lambda: 0)
    _measured: tuple[int, int] = field(init=False, default=(0, 0))
    """When (microseconds), and how many bytes were free."""
    _aside: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.batch_ids = BatchIds(self.clock)
        self.bodies = Bodies(self.settings.max_body_bytes)
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checker")
        self.reader = Reader(self.open_store)
        self.lister = Reader(self.open_store)
        self.watch = Watch(lambda: self.reader.run(lambda store: store.log.end()), self.stopping)
        bell = Bell(self.settings.database_path)
        self.measured = Measured(lambda work: self.writer.post(work))
        self.writer = Writer(self.open_store, bell, before=self.measured.take)

    async def open(self) -> None:
        """Raises StoreError, with a sentence for the operator."""
        self.reader.open()
        self.lister.open()
        self.signing_key = await self.reader.run(Store.signing_key)
        self._measure = await self.reader.run(lambda store: store.housekeeping.free_bytes)
        self.writer.open()
        self.measured.started()

    async def close(self) -> None:
        """Store what waits; then let go of the database."""
        self.measured.write()
        self.writer.close()
        self.reader.close()
        self.lister.close()
        self._aside.shutdown()

    def free_bytes(self) -> int:
        """Room on the database's disk, as it was a moment ago: asking takes long under load."""
        now_us = self.clock.mono_us()
        if now_us > self._measured[0] + MEASURE_EVERY_US:
            self._measured = now_us, self._measure()
        return self._measured[1]

    async def aside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what takes long beside the event loop, one thing at a time."""
        job = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._aside, job)

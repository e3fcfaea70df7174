"""One thread that writes for a whole API process, so that requests waiting together share a commit.

A job is a function of the Store. Jobs that wait are run in one durable transaction, in which each
can fail alone; their callers hear after the commit. A job whose caller has given
up is not run. What this leaves to others: deciding what to write, and telling clients.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from mailer.errors import StoreError, StoreUnavailable
from mailer.store import Store
from mailer.wake import Bell

T = TypeVar("T")

WAITING_JOBS: Final = 2_000
"""More are refused at once: the answer would come too late to be of use."""
JOBS_A_COMMIT: Final = 200
WAIT_S: Final = 10.0


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[Store], Any]
    rings: bool
    accepts: bool
    caller: asyncio.Future[Any] | None
    """None: nobody waits to hear."""
    given_up: bool = False
    begun: bool = False
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Runs jobs in the order they came."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        bell: Bell,
        *,
        wait_s: float = WAIT_S,
        before: Callable[[Store], None] = lambda store: None,
    ) -> None:
        """A job that has not begun in `wait_s` is given up; `before` comes before each commit."""
        self._open_store = open_store
        self._bell = bell
        self._wait_s = wait_s
        self._before = before
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Open the store and start; call from the event loop's thread. Raises StoreError."""
        store = self._open_store()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, args=(store,), name="writer")
        self._thread.start()

    def close(self) -> None:
        """Finish what waits, close the store, end the thread."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        self._bell.close()

    async def run(self, work: Callable[[Store], T], *, rings: bool = False) -> T:
        """Run `work` in a durable transaction; what it returned, once that is on disk.

        With `rings` senders are woken after the commit. Raises what `work` raised, and
        StoreUnavailable when it could not be written or begun in time: nothing is stored then.
        """
        return await self._run(work, rings=rings, accepts=False)

    async def accept(self, work: Callable[[Store], T]) -> T:
        """The same for work that does nothing but accept mail, quicker."""
        return await self._run(work, rings=True, accepts=True)

    async def _run(self, work: Callable[[Store], T], *, rings: bool, accepts: bool) -> T:
        loop = asyncio.get_running_loop()
        caller: asyncio.Future[T] = loop.create_future()
        job = _Job(work, rings, accepts, caller)
        self._put(job)
        patience = loop.call_later(self._wait_s, _give_up, job)
        try:
            return await caller
        finally:
            patience.cancel()

    def post(self, work: Callable[[Store], object]) -> None:
        """Run `work` some time, without waiting to hear. Raises StoreUnavailable if too many do."""
        self._put(_Job(work, rings=False, accepts=False, caller=None))

    def _put(self, job: _Job) -> None:
        if self._thread is None or not self._thread.is_alive():
            raise StoreUnavailable("the writer has stopped")
        if self._jobs.qsize() >= WAITING_JOBS:
            raise StoreUnavailable(f"{WAITING_JOBS} requests wait to be stored already")
        self._jobs.put(job)

    def _work(self, store: Store) -> None:
        try:
            while jobs := self._next_jobs():
                self._commit(store, jobs)
        finally:
            store.close()

    def _next_jobs(self) -> list[_Job]:
        """Wait for a job and take those that wait with it; none when it is time to end."""
        job = self._jobs.get()
        if job is None:
            return []
        jobs = [job]
        self._take_waiting(jobs)
        return jobs

    def _take_waiting(self, jobs: list[_Job]) -> None:
        """Add those that wait by now."""
        with suppress(queue.Empty):
            while len(jobs) < JOBS_A_COMMIT:
                job = self._jobs.get_nowait()
                if job is None:
                    self._jobs.put(None)  # these first; the end comes round again
                    return
                jobs.append(job)

    def _commit(self, store: Store, jobs: list[_Job], *, alone: bool = False) -> None:
        self._before(store)
        try:
            with store.write():
                if not alone:
                    self._take_waiting(jobs)  # those that came while another process was writing
                for job in jobs:
                    _run(store, job)
        except StoreError as error:
            for job in jobs:
                job.error = error
        except BaseException as error:
            # Something that was accepted can't be written: it must not take the others with it.
            if len(jobs) > 1:
                for job in jobs:
                    self._commit(store, [job], alone=True)
                return
            jobs[0].error = error
        else:
            if any(job.rings and job.error is None for job in jobs):
                self._bell.ring()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_tell, jobs)


def _give_up(job: _Job) -> None:
    """Either the thread sees this before it begins, or it has begun and will tell."""
    job.given_up = True
    if not job.begun and job.caller is not None and not job.caller.done():
        job.caller.set_exception(StoreUnavailable("the database is busy; nothing was stored"))


def _run(store: Store, job: _Job) -> None:
    job.begun = True
    job.error = None
    if job.given_up:
        return
    try:
        # Mail is stored when the transaction ends: there is nothing to undo before that.
        with nullcontext() if job.accepts else store.part():
            job.result = job.work(store)
    except StoreError:
        raise  # the whole transaction is lost
    except Exception as error:
        job.error = error


def _tell(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.caller is None or job.caller.done():
            continue
        if job.error is not None:
            job.caller.set_exception(job.error)
        else:
            job.caller.set_result(job.result)

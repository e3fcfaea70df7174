"""All of mailer's state: one SQLite file behind one boundary.

Nothing outside sees a connection, a cursor or an SQLite error. Reads may be done at any time;
what changes anything is called inside `with store.write():`, one durable transaction that may
combine several such calls. A Store belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailer.store.approvals import Approvals
from mailer.store.batches import Batches
from mailer.store.connection import Database
from mailer.store.cursors import Cursors
from mailer.store.events import Events
from mailer.store.expiry import Expiry
from mailer.store.hold import Hold
from mailer.store.housekeeping import Housekeeping
from mailer.store.idempotency import Idempotency
from mailer.store.idle import Idle
from mailer.store.log import Log
from mailer.store.mails import Mails
from mailer.store.messages import Messages
from mailer.store.outcomes import Outcomes, Rules
from mailer.store.queue import Queue
from mailer.store.senders import Senders
from mailer.store.shelves import PluginShelf
from mailer.store.slots import Slots
from mailer.store.status import Status
from mailer.store.suppressions import Suppressions
from mailer.store.topics import Topics
from mailer.store.transports import Transports
from mailer.store.verify import check_schema
from mailer.store.windows import Windows


class Store:
    """The nouns of one database."""

    def __init__(self, path: Path, rules: Rules, lock_timeout_s: float | None = None) -> None:
        """Raises SchemaMismatch, StoreDamaged or StoreUnavailable."""
        self._db = Database(path, lock_timeout_s)
        try:
            check_schema(self._db)
        except BaseException:
            self._db.close()
            raise
        self.path = self._db.path
        self.approvals = Approvals(self._db)
        self.messages = Messages(self._db)
        self.batches = Batches(self._db, self.messages, rules.limits)
        self.log = Log(self._db)
        self.cursors = Cursors(self._db, self.log)
        self.events = Events(self._db)
        self.expiry = Expiry(self._db)
        self.hold = Hold(self._db)
        self.housekeeping = Housekeeping(self._db)
        self.idempotency = Idempotency(self._db)
        self.idle = Idle(self._db)
        self.mails = Mails(self._db)
        self.measures = self._db.measures
        self.outcomes = Outcomes(self._db, self.events, rules)
        self.windows = Windows(self._db, rules.limits)
        self.slots = Slots(self._db, self.windows)
        self.queue = Queue(self._db, self.slots, rules.limits)
        self.senders = Senders(self._db)
        self.status = Status(self._db)
        self.suppressions = Suppressions(self._db)
        self.topics = Topics(self._db)
        self.transports = Transports(self._db)

    @contextmanager
    def write(self) -> Iterator[None]:
        """One durable transaction: on disk when the block ends, undone if it raises.

        Raises StoreUnavailable when the database can't be written now.
        """
        try:
            with self._db.write():
                yield
                self.batches.store_gathered()
                self.idempotency.store_gathered()
        finally:
            self.batches.forget_gathered()
            self.idempotency.forget_gathered()

    @contextmanager
    def part(self) -> Iterator[None]:
        """A part of the running transaction that can fail and be undone by itself."""
        with self._db.savepoint():
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read within is the database as it was at one instant."""
        with self._db.snapshot():
            yield

    def ping(self) -> None:
        """Raises StoreError unless the database can be read."""
        self._db.one("SELECT commits FROM meta")

    def shelf(self, plugin: str) -> PluginShelf:
        """What a plugin keeps."""
        return PluginShelf(self._db, plugin)

    def version(self) -> int:
        """Another number when another process has committed."""
        return self._db.version()

    def signing_key(self) -> bytes:
        """The key of the tokens in mails; made with the database, never changed."""
        row = self._db.one("SELECT signing_key FROM meta")
        return bytes(row[0]) if row else b""

    def lock_holder(self) -> int:
        """The process that took the write lock last."""
        return self._db.lock_holder()

    def close(self) -> None:
        """Harmless when done twice."""
        self._db.close()

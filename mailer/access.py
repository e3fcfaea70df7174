"""What a plugin has of mailer while it works: its shelf, and in a worker the event log too.

Plugins import these names from `mailer.hookspecs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mailer.hookspecs import Event, ProviderEvent


class Shelf(Protocol):
    """A plugin's own records in mailer's database: values by key, in the order of the keys.

    Plugins do not see each other's. A key is 1 to 500 printable characters, ordered by code
    point; a value is at most 1 MiB. Anything else raises ValueError.
    """

    def get(self, key: str) -> bytes | None:
        """The value, or None."""

    def put(self, key: str, value: bytes) -> None:
        """Store it, in place of what may be there."""

    def remove(self, key: str) -> None:
        """Harmless when there is none."""

    def read(
        self, prefix: str = "", *, after: str = "", before: str | None = None, limit: int = 100
    ) -> list[tuple[str, bytes]]:
        """The first `limit` records whose keys begin with `prefix`, in their order.

        Only keys greater than `after` and less than `before`: `after` the last key of one page
        gives the next.
        """


class Access(Protocol):
    """What a worker has of mailer; for the thread that runs it alone, but for `wake`.

    Any of it may raise `errors.StoreUnavailable` (a full disk, say): try again later, or let it
    end the worker, which is then started again.
    """

    @property
    def shelf(self) -> Shelf:
        """For reading at any time, for changes within `write()`."""

    @property
    def stopping(self) -> bool:
        """Return soon: in 9 s the process is killed."""

    def write(self) -> AbstractContextManager[None]:
        """One durable transaction: on disk when the block ends, undone if it raises.

        All of mailer waits for it meanwhile: do nothing in it but read and change the shelf.
        """

    def learn(self, events: Sequence[ProviderEvent]) -> int:
        """Append to the event log and move the mails; how many were new. On disk when it returns.

        Not within `write()`.
        """

    def events(self, *, after: str = "", limit: int = 100) -> Sequence[Event]:
        """The first events of the log behind the one with this id, oldest first; none: no more.

        Empty: from the oldest there is.
        """

    def wait(self, timeout_s: float) -> None:
        """Sleep until something was stored by another process, `wake` was called, or mailer stops.

        What was stored may be none of the plugin's business; it is seen within 0.2 s.
        """

    def wake(self) -> None:
        """End the present or next `wait`; from any thread."""


Worker = Callable[[Access], None]
"""Returns when `stopping`; when it returns before, or raises, it is started again."""

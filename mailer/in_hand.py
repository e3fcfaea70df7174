"""The event that a notifier has in hand, in a file: the next process finds what ended the last.

Written before each call of the plugin and not synced, so that it costs nothing: it has to outlive
the process, not the machine.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

NOTHING: Final = 0


class InHand:
    """One plugin's file, `<database>-notifier-<plugin>`."""

    def __init__(self, database: Path, plugin: str) -> None:
        database = database.resolve()
        path = database.with_name(f"{database.name}-notifier-{quote(plugin, safe='')}")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def place(self) -> int:
        """The place in the log of the event in hand; NOTHING if there is none."""
        try:
            return int(os.pread(self._fd, 20, 0) or NOTHING)
        except ValueError:
            return NOTHING  # the machine ended too, and this was never written

    def take(self, place: int) -> None:
        with contextlib.suppress(OSError):  # a full disk: its end would be nobody's fault
            os.pwrite(self._fd, b"%020d" % place, 0)

    def put_down(self) -> None:
        self.take(NOTHING)

    def close(self) -> None:
        os.close(self._fd)

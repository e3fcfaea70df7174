"""systemd's journal: log lines with a priority and with fields that can be searched for.

Where standard error is the journal's, each line goes there by the journal's own protocol
(https://systemd.io/JOURNAL_NATIVE_PROTOCOL), so that `journalctl MAILER_MAIL_ID=…` finds it.
What can't go that way is written to standard error with its priority before it (sd-daemon(3)).
"""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import TextIO

from mailer.log_lines import Lines, fields


def journal_of(fd: int) -> str | None:
    """The socket of the journal that this descriptor writes to; None if it writes elsewhere.

    A journal listens at `stdout` for streams and at `socket` for datagrams, side by side.
    """
    try:
        with socket.socket(fileno=os.dup(fd)) as stream:
            peer = stream.getpeername()
    except OSError:  # no socket, or none that is connected
        return None
    if isinstance(peer, str) and peer.startswith("/run/systemd/journal"):
        return str(Path(peer).with_name("socket"))
    return None


class JournalLines(logging.StreamHandler[TextIO]):
    """Lines with their priority before them, as the journal takes them from a stream."""

    def __init__(self, stream: TextIO, lines: Lines) -> None:
        super().__init__(stream)
        self.setFormatter(lines)

    def format(self, record: logging.LogRecord) -> str:
        return f"<{priority(record.levelno)}>{super().format(record)}"


class JournalFields(JournalLines):
    """Lines with fields beside them."""

    def __init__(self, stream: TextIO, lines: Lines, process_name: str, address: str) -> None:
        super().__init__(stream, lines)
        self._lines = lines
        self._process_name = process_name
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def emit(self, record: logging.LogRecord) -> None:
        entry = {
            "MESSAGE": self._lines.format(record),
            "PRIORITY": priority(record.levelno),
            "SYSLOG_IDENTIFIER": "mailer",
            "MAILER_PROCESS": self._process_name,
            "MAILER_LOGGER": record.name,
            **{f"MAILER_{name.upper()}": value for name, value in fields(record).items()},
        }
        # A value with a line break would need its length before it: see the protocol.
        lines = (f"{name}={' '.join(str(value).split())}\n" for name, value in entry.items())
        try:
            self._socket.sendto("".join(lines).encode("utf-8", "replace"), self._address)
        except OSError:  # longer than a datagram, or no journal for the moment
            super().emit(record)


def priority(level: int) -> int:
    """syslog(3)'s, as sd-daemon(3) and `journalctl -p` count."""
    ours = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
    return ours.get(level, 7)

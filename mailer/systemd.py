"""Telling systemd how a service fares: the datagrams of sd_notify(3), and nothing else of it.

Without a socket to tell nobody is told, so that whoever calls need not know how it was started.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

Tell = Callable[[str], None]
"""Takes lines such as `READY=1`, `WATCHDOG=1` or `STATUS=…`."""


def teller(notify_socket: str | None) -> Tell:
    """`notify_socket` is $NOTIFY_SOCKET: a path, or a name in the abstract namespace after `@`."""
    if not notify_socket:
        return lambda _: None
    address = "\0" + notify_socket[1:] if notify_socket.startswith("@") else notify_socket
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def tell(state: str) -> None:
        with contextlib.suppress(OSError):  # a service manager that is busy or gone stops nobody
            ours.sendto(state.encode(), address)

    return tell

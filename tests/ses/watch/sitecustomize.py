"""Writes down whom a process that has this directory on PYTHONPATH looks up or connects to.

Each look-up of a name and each connection to an address is a line in the file ASKED.
"""

from __future__ import annotations

import os
import sys

_ASKED = os.open(os.environ["ASKED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname")


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event in _LOOK_UPS:
        os.write(_ASKED, f"{arguments[0]!r}\n".encode())
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        os.write(_ASKED, f"{arguments[1][0]!r}\n".encode())


sys.addaudithook(_note)

"""Event plugins that do as they are told: `one`, `two` and `bad`.

Found by child processes through the `dist-info` beside it, when this directory is on PYTHONPATH.
Each writes down what it hears of, and when, in `heard-NAME` in the directory RECORDER. What it is
to do at events of mail to `poison@…` stands in `told-NAME`; LISTENERS_PAUSE_S makes them slow.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
from pathlib import Path

from mailer.hookspecs import Event, Shelf, hookimpl

MIB = 1024 * 1024
leaked: list[bytes] = []


class Listener:
    """Writes down each event and counts them on its shelf."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._heard: int | None = None
        self._pause_s = float(os.environ.get("LISTENERS_PAUSE_S", 0))

    @hookimpl
    def mailer_event(self, event: Event, shelf: Shelf) -> object:
        directory = Path(os.environ["RECORDER"])
        if self._heard is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._heard = os.open(directory / f"heard-{self._name}", flags)
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        line = f"{now_us} {event.id} {event.type} {event.mail_id}\n"
        os.write(self._heard, line.encode())
        shelf.put("count", b"%d" % (int(shelf.get("count") or 0) + 1))
        if self._pause_s:
            time.sleep(self._pause_s)
        told = directory / f"told-{self._name}"
        if (event.recipient or "").startswith("poison@") and told.exists():
            return _misbehave(told.read_text())
        return None


def _misbehave(how: str) -> object:
    match how:
        case "raise":
            raise RuntimeError("a secret")
        case "SystemExit":
            raise SystemExit(0)
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "hang":
            threading.Event().wait()
        case "hang with the interpreter held":
            re.match(r"(a|aa)+$", "a" * 200 + "b")
        case "eat":
            leaked.extend(bytes(MIB) for _ in range(1024))
        case "print":
            for _ in range(100):
                print("x" * MIB, flush=True)
        case "junk":
            return object()
    return None


one, two, bad = Listener("one"), Listener("two"), Listener("bad")

"""A child's sleep: until a time, a signal, the end of the supervisor, or something else it awaits.

SIGTERM asks a child to stop, and so does the end of its standard input: the supervisor holds the
other end, which closes however that process ends. Ctrl-C reaches children through the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys


class Sleep:
    """One for each process, made by its main thread."""

    def __init__(self, *awaited: socket.socket) -> None:
        """Also ends when one of `awaited` can be read."""
        self.stopping = False
        self._poked, self._poke = socket.socketpair()
        self._signalled, self._signal = socket.socketpair()
        for end in (self._poked, self._poke, self._signalled, self._signal):
            end.setblocking(False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._stop)
        signal.set_wakeup_fd(self._signal.fileno(), warn_on_full_buffer=False)
        self._poke_sent = False
        self._selector, self._without_pokes = (selectors.DefaultSelector() for _ in range(2))
        for selector in (self._selector, self._without_pokes):
            for readable in (*awaited, self._signalled, sys.stdin.fileno()):
                selector.register(readable, selectors.EVENT_READ)
        self._selector.register(self._poked, selectors.EVENT_READ)

    def _stop(self, _signal: int, _frame: object) -> None:
        self.stopping = True

    def poke(self) -> None:
        """End the present or next sleep; from any thread."""
        if self._poke_sent:
            return  # nobody has slept since; what is poked for is seen before the next sleep
        self._poke_sent = True
        with contextlib.suppress(BlockingIOError):
            self._poke.send(b"x")

    def until(self, at_most_s: float, *, heed_pokes: bool = True) -> bool:
        """Sleep; whether it was ended by nothing but a poke."""
        selector = self._selector if heed_pokes else self._without_pokes
        ready = {key.fd for key, _ in selector.select(at_most_s)}
        drain(self._poked)
        self._poke_sent = False
        drain(self._signalled)
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 64):
            self.stopping = True
            for selector in (self._selector, self._without_pokes):
                selector.unregister(sys.stdin.fileno())
        return ready == {self._poked.fileno()}

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._without_pokes.close()


def drain(end: socket.socket) -> None:
    """Take what has come, so that the next sleep is one."""
    with contextlib.suppress(BlockingIOError):
        while end.recv(4096):
            pass

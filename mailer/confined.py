"""Keeps a process that runs a plugin's code within bounds: memory, time, output, its turn.

A plugin that goes wrong then harms its own process, which the supervisor replaces. When it crashes
or takes too long the log tells the place in the code.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from typing import Final

OUTPUT_BYTES: Final = 64 * 1024
"""What of a process's output, its log lines among it, is passed on in a minute."""
STACK_BYTES: Final = 1024 * 1024
"""Of each thread: it counts as memory whether it is used or not, and 8 MiB are usual."""
NICE: Final = 5
"""Senders and API go first when all want the processor (nice(2))."""
LAST_WORDS_S: Final = 1.0


def confine(memory_mb: int) -> None:
    """Confine this process from now on.

    RLIMIT_DATA counts what is writable and private (setrlimit(2)), so neither libraries nor the
    database's shared memory. Past it an allocation fails: MemoryError.
    """
    memory_bytes = memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    threading.stack_size(STACK_BYTES)
    with contextlib.suppress(PermissionError):  # a service's sandbox may forbid it
        os.nice(NICE)
    log = os.dup(2)
    faulthandler.enable(log)
    faulthandler.register(signal.SIGALRM, log, chain=True)  # then the signal does what it does
    taken, given = os.pipe()
    os.dup2(given, 1)
    os.dup2(given, 2)
    os.close(given)
    passing_on = threading.Thread(target=_pass_on, args=(taken, log), name="output", daemon=True)
    passing_on.start()
    atexit.register(_end, passing_on, log)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End the process (SIGALRM) if the block takes longer, whatever it is stuck in.

    The kernel does it, so that code which never gives the interpreter back is ended too.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _pass_on(taken: int, log: int) -> None:
    minute, left = -1, 0
    while output := os.read(taken, OUTPUT_BYTES):
        now = int(time.monotonic() // 60)
        if now != minute:
            minute, left = now, OUTPUT_BYTES
        if len(output) <= left:
            os.write(log, output)
            left -= len(output)
        elif left >= 0:
            os.write(log, output[:left] + b"\n(too much: the rest of this minute is left out)\n")
            left = -1


def _end(passing_on: threading.Thread, log: int) -> None:
    """Close the pipe's last ends, so that what is in it is passed on."""
    os.dup2(log, 1)
    os.dup2(log, 2)
    passing_on.join(LAST_WORDS_S)

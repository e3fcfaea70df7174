"""What the bare machine can do, to be read beside every figure of mailer's."""

from __future__ import annotations

import os
import platform
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mailer.store.library import sqlite_version

SECONDS = 0.5


def measured(directory: Path) -> dict[str, Any]:
    """The machine and its own figures; files are synced in `directory`, where the database is."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": ".".join(map(str, sqlite_version())),
        "load_at_start": round(os.getloadavg()[0], 1),
        "syncs_per_s": round(_syncs_per_s(directory)),
        "loopback_round_trips_per_s": round(_round_trips_per_s()),
        "python_loop_per_s": round(_python_loop_per_s()),
    }


def told(own: Mapping[str, Any]) -> str:
    """What stands beside each figure."""
    return (
        f"{own['syncs_per_s']:,} syncs/s, {own['loopback_round_trips_per_s']:,} loopback round"
        f" trips/s, {own['python_loop_per_s'] / 1e6:.3g} M Python additions/s, load"
        f" {own['load_at_start']}"
    )


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "?")


def _syncs_per_s(directory: Path) -> float:
    """4 KiB written and synced, over and over, as a commit does."""
    path = directory / "syncs"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        began, done = time.perf_counter(), 0
        while time.perf_counter() < began + SECONDS:
            os.pwrite(fd, b"x" * 4096, 4096 * (done % 1000))
            os.fdatasync(fd)
            done += 1
        return done / (time.perf_counter() - began)
    finally:
        os.close(fd)
        path.unlink()


def _round_trips_per_s() -> float:
    """One connection, 100 bytes there and back."""
    listener = socket.create_server(("127.0.0.1", 0))

    def echo() -> None:
        peer, _ = listener.accept()
        with peer:
            while data := peer.recv(100):
                peer.sendall(data)

    thread = threading.Thread(target=echo)
    thread.start()
    with socket.create_connection(listener.getsockname()) as connection:
        began, done = time.perf_counter(), 0
        while time.perf_counter() < began + SECONDS:
            connection.sendall(b"x" * 100)
            connection.recv(100)
            done += 1
        took_s = time.perf_counter() - began
    thread.join()
    listener.close()
    return done / took_s


def _python_loop_per_s() -> float:
    """Additions in a loop, on one core."""
    began, done = time.perf_counter(), 0
    while time.perf_counter() < began + SECONDS:
        for number in range(10_000):
            done += number & 1
        done += 5_000
    return done / (time.perf_counter() - began)

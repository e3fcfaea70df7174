"""Run inside a unit: tries what no service of mailer may do, and prints what worked."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
NOT_FILES = ("/proc", "/sys", "/dev/pts", "/dev/fd")


def checked(status: int) -> None:
    if status < 0:
        raise OSError(ctypes.get_errno(), "refused")


def shell() -> None:
    subprocess.run(["/bin/sh", "-c", "true"], check=True)


def shell_by_the_loader() -> None:
    """The dynamic loader may be executed; what it maps must not be."""
    loader = next(Path("/lib64").glob("ld-linux-*"))
    subprocess.run([loader, "/bin/sh", "-c", "true"], check=True, stderr=subprocess.DEVNULL)


def shell_of_its_own() -> None:
    """A copy where it may write: in one place after the other, until it can be executed."""
    for place in (".", "/tmp", "/var/tmp"):
        copy = Path(place, "copy-of-sh").absolute()
        shutil.copy("/bin/sh", copy)
        try:
            subprocess.run([copy, "-c", "true"], check=True)
            return
        except OSError as error:
            refused = error
        finally:
            copy.unlink()
    raise refused


def shell_in_memory() -> None:
    fd = os.memfd_create("sh", 0)
    os.write(fd, Path("/bin/sh").read_bytes())
    subprocess.run([f"/proc/self/fd/{fd}", "-c", "true"], check=True, pass_fds=[fd])


def trace() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        checked(LIBC.ptrace(16, child.pid, 0, 0))  # PTRACE_ATTACH
    finally:
        child.kill()


def raw_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def packet_socket() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def namespace() -> None:
    checked(LIBC.unshare(0x10000000))  # CLONE_NEWUSER


def code_that_was_written() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def metadata() -> None:
    urllib.request.urlopen("http://169.254.169.254/", timeout=2).close()


FORBIDDEN: tuple[Callable[[], None], ...] = (
    shell,
    shell_by_the_loader,
    shell_of_its_own,
    shell_in_memory,
    trace,
    raw_socket,
    packet_socket,
    namespace,
    code_that_was_written,
    metadata,
)


def works(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def writable() -> list[str]:
    """Every directory in which a file can be made."""
    found = []
    for directory, names, _ in os.walk("/"):
        if directory.startswith(NOT_FILES):
            names.clear()
            continue
        try:
            os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o600))
        except OSError:
            continue
        found.append(directory)
        names.clear()
    return found


if __name__ == "__main__":
    print(
        json.dumps({"works": [a.__name__ for a in FORBIDDEN if works(a)], "writable": writable()})
    )

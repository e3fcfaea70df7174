"""Faults of the machine, made on purpose: a disk that is full or loses power, syscalls that fail.

Disks are mounted, so root is needed; they are always given back. Programs are made to fail by a
library loaded before libc (`Shim`), or end at an exact syscall by strace.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.waiting import until

EXT4_IOC_SHUTDOWN: Final = 0x8004587D
NOLOGFLUSH: Final = 2
"""Not even the file system's own journal is written any more: what a power cut does."""

_SHIM_SOURCE: Final = Path(__file__).with_name("shim.c")


class Disk:
    """A file system in a file, which can be cut off from its power."""

    def __init__(self, image: Path, mount_point: Path) -> None:
        self.image = image
        self.path = mount_point

    def cut_power(self) -> None:
        """From now on nothing reaches the disk, and every write fails."""
        directory = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(directory)

    def power_up(self) -> None:
        """Mount again what had reached the disk; no process may hold a file of it."""
        self.unmount()
        _run("mount", "-o", "loop", str(self.image), str(self.path))

    def unmount(self) -> None:
        """Processes that were killed a moment ago may still hold files."""
        until(lambda: _unmounted(self.path), within_s=10)

    def set_read_only(self, read_only: bool) -> None:
        _run("mount", "-o", "remount,ro" if read_only else "remount,rw", str(self.path))


@contextmanager
def ext4(directory: Path, megabytes: int = 64) -> Iterator[Disk]:
    """A disk of one's own."""
    require_root()
    image = directory / "disk.img"
    with image.open("wb") as file:
        file.truncate(megabytes * 1024 * 1024)
    _run("mkfs.ext4", "-q", "-F", str(image))
    disk = Disk(image, directory / "disk")
    disk.path.mkdir()
    _run("mount", "-o", "loop", str(image), str(disk.path))
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk.path)], check=False, capture_output=True)


@contextmanager
def tmpfs(directory: Path, megabytes: int) -> Iterator[Path]:
    """A small disk."""
    require_root()
    path = directory / "small"
    path.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path))
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)


class Filler:
    """Takes all room that is left on a disk, and gives it back."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "filler"

    def fill(self) -> None:
        """To the last byte, and again whatever has become free meanwhile."""
        with self._path.open("ab", buffering=0) as file:
            for size in (1024 * 1024, 4096, 1):
                try:
                    while file.write(b"\0" * size):
                        pass
                except OSError:
                    continue

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)


class Shim:
    """fsync and fdatasync fail with EIO in a process that has this environment, while `on`."""

    def __init__(self, directory: Path) -> None:
        self._library = directory / "shim.so"
        self._switch = directory / "sync-fails"
        _run("cc", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(_SHIM_SOURCE), "-ldl")

    @property
    def environ(self) -> Mapping[str, str]:
        return {"LD_PRELOAD": str(self._library), "SYNC_FAILS_WHILE": str(self._switch)}

    def on(self, *, told: bool = True) -> None:
        """With `told` False the program hears that what was not synced was."""
        self._switch.write_text("" if told else "all is well")

    def off(self) -> None:
        self._switch.unlink()


def killed_at(syscall: str, number: int, *, children: bool = True) -> list[str]:
    """Run the command that follows and kill it with SIGKILL at its n-th such syscall.

    With `children`, its other threads and the processes it starts too, each at its own n-th.
    """
    return [
        *("strace", *(["-f"] if children else []), "-qq", "-o", "/dev/null"),
        *("-e", f"trace={syscall}", "-e", f"inject={syscall}:signal=SIGKILL:when={number}"),
    ]


@contextmanager
def attached(pid: int, strace: Sequence[str]) -> Iterator[None]:
    """A process that runs already is under strace's watch, with all its threads."""
    watch = subprocess.Popen([*strace, "-p", str(pid)])
    try:
        until(lambda: _traced_by(watch.pid, pid))
        yield
    finally:
        watch.terminate()
        watch.wait()


WITHOUT_ROOTS_POWER: Final = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
"""Run the command that follows so that file modes hold for root too."""


def require_root() -> None:
    assert os.geteuid() == 0, "this test mounts a file system: run it as root"


def _traced_by(tracer: int, pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").glob("*/status")
    return all(f"TracerPid:\t{tracer}\n" in thread.read_text() for thread in threads)


def _unmounted(path: Path) -> bool:
    return subprocess.run(["umount", str(path)], check=False, capture_output=True).returncode == 0


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"

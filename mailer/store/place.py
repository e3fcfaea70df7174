"""Where a database may lie: on a disk of this machine, since locks hold nowhere else.

https://www.sqlite.org/wal.html: all processes on one host, not over a network file system.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from mailer.errors import StoreUnavailable
from mailer.privileges import refuse_foreign

MOUNTS: Final = Path("/proc/self/mountinfo")
NETWORK_FILE_SYSTEMS: Final = frozenset({
    "9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs",
    "nfs", "nfs4", "smb3", "smbfs", "virtiofs",
})  # fmt: skip


def check_place(database: Path) -> None:
    """Raises StoreUnavailable where a database can't be kept, RunsAsRoot where another's lies."""
    place, kind = mount_of(database.absolute(), MOUNTS.read_text())
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreUnavailable(
            f"{database} lies on a network file system ({kind} at {place}), where SQLite's locks do"
            " not hold: let DATABASE_URL name a file on a local disk."
        )
    if database.is_dir():
        raise StoreUnavailable(f"{database} is a directory: let DATABASE_URL name a file.")
    refuse_foreign(database)
    for part in (database.parent, database):
        if part.exists() and not os.access(part, os.W_OK):
            raise StoreUnavailable(
                f"{part} can't be written: its mode or owner forbids it, or the disk is mounted"
                " read-only. Put that right, then start again."
            )


def mount_of(path: Path, mounts: str) -> tuple[str, str]:
    """The mount that a path lies on, and its type (proc_pid_mountinfo(5))."""
    found = ("", "unknown")
    for line in mounts.splitlines():
        fields = line.split()
        place, kind = fields[4].replace("\\040", " "), fields[fields.index("-") + 1]
        if path.is_relative_to(place) and len(place) >= len(found[0]):
            found = place, kind
    return found

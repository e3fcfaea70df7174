"""As whom mailer runs: as a user of its own, and never with root's means on another's database.

What serves strangers and runs plugins is no place for root; and of what root writes beside a
user's database that user's processes can open nothing.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from mailer.errors import RunsAsRoot


def refuse_root(*, allowed: bool) -> None:
    """Raises RunsAsRoot for what stays and serves, unless it is allowed."""
    if os.geteuid() == 0 and not allowed:
        raise RunsAsRoot(
            "mailer does not run as root: a flaw in it or in a plugin would give away the whole"
            " machine. Start it as a user of its own, as deploy/install.sh and `mailer systemd"
            " install` do, or by hand: `runuser -u USER -- mailer …`. Where there is none but root,"
            " say --allow-root or set ALLOW_ROOT=1."
        )


def refuse_foreign(database: Path) -> None:
    """Raises RunsAsRoot when root would make files beside the database of another user."""
    if os.geteuid() != 0:
        return
    place = database if database.exists() else database.parent
    owner = place.stat().st_uid
    if owner != 0:
        raise RunsAsRoot(
            f"{place} belongs to {_name(owner)}, who could not open what root makes beside it:"
            f" `runuser -u {_name(owner)} -- mailer …` (`sudo mailer …` where mailer was installed"
            " as a service)"
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"

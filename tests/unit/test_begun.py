"""How far a sender has come is known after its end, whatever ended it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from mailer.begun import Begun, begun_path, last_begun_us

DIED_US = 10**9

# Notes two slots, the later one first, and is killed.
KILLED = """
import os, signal, sys
from pathlib import Path
from mailer.begun import Begun
begun = Begun(Path(sys.argv[1]), 7)
begun.note(5_000)
begun.note(4_000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_begun_last_outlives_the_process(tmp_path: Path) -> None:
    database = tmp_path / "mailer.db"
    killed = subprocess.run([sys.executable, "-c", KILLED, database], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert last_begun_us(database, 7, DIED_US) == 5_000
    assert begun_path(database, 7).stat().st_mode & 0o777 == 0o600


def test_nothing_is_begun_at_first_whatever_an_earlier_sender_noted(tmp_path: Path) -> None:
    database = tmp_path / "mailer.db"
    Begun(database, 7).note(5_000)
    Begun(database, 7)
    assert last_begun_us(database, 7, DIED_US) == 0


def test_what_is_not_known_may_all_have_been_begun(tmp_path: Path) -> None:
    database = tmp_path / "mailer.db"
    assert last_begun_us(database, 7, DIED_US) == DIED_US
    begun_path(database, 7).write_bytes(b"short")
    assert last_begun_us(database, 7, DIED_US) == DIED_US
    Begun(database, 8).note(2 * DIED_US)
    assert last_begun_us(database, 8, DIED_US) == DIED_US

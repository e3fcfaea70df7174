"""Another program holds the database: told to clients as 503 in time, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.load import Load, assert_told_to_come_back, integrity, stored
from tests.faults.mailer_run import MailerRun, recipients
from tests.smtp_sink import SmtpSink
from tests.waiting import until

# Each says when it has the lock, and lets go when its input ends.
_HOLDERS = {
    "sqlite": """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
""",
    "flock": """
import fcntl, sys
file = open(sys.argv[1] + "-lock", "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
""",
}

HELD_FOR_S = 20.0
ANSWERED_WITHIN_S = 12.0
BACK_WITHIN_S = 2.0


@pytest.mark.parametrize("by", _HOLDERS)
def test_a_database_held_by_another_program(
    tmp_path: Path, sink: SmtpSink, start: Callable[..., MailerRun], by: str
) -> None:
    database = tmp_path / "mailer.db"
    run = start(database).serving()
    with Load(run, clients=2, pause_s=0.01) as load:
        load.wait_for(50)
        with subprocess.Popen(
            [sys.executable, "-c", _HOLDERS[by], str(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            since = time.monotonic()
            load.wait_for_refused(2)  # both clients: no earlier answer is on its way any more
            held_at = len(load.accepted)
            assert run.get("/health").status == 200
            threading.Event().wait(since + HELD_FOR_S - time.monotonic())
            assert len(load.accepted) == held_at
        load.wait_for(held_at + 50, within_s=BACK_WITHIN_S)
    assert_told_to_come_back(list(load.refused.values()))
    assert load.longest_s < ANSWERED_WITHIN_S
    assert stored(database) == load.accepted
    until(lambda: sorted(recipients(sink)) == sorted(load.accepted))
    assert run.terminate() == 0
    assert integrity(database) == "ok"

"""Power cut: whatever was answered 200 is on the disk, and sending goes on."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mailer.store.verify import verify
from tests.faults.fault import ext4
from tests.faults.load import Load, integrity, query, stored, uncertain_once
from tests.faults.mailer_run import MailerRun, recipients
from tests.smtp_sink import SmtpSink
from tests.waiting import until

# The same kind of writer with its promise as an argument: says each row once it is committed.
_WRITER = """
import sys
from mailer.store.connection import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY)")
connection.execute(f"PRAGMA synchronous = {sys.argv[2]}")
while True:
    connection.execute("INSERT INTO rows DEFAULT VALUES")
    print(flush=True)
"""


@pytest.mark.timeout(900)
def test_every_accepted_mail_outlives_a_power_cut(
    tmp_path: Path,
    sink: SmtpSink,
    start: Callable[..., MailerRun],
    often: Callable[[int], int],
) -> None:
    instants = random.Random(4)
    accepted: dict[str, str] = {}
    with ext4(tmp_path) as disk:
        database = disk.path / "mailer.db"
        for _ in range(often(50)):
            run = start(database).serving()
            with Load(run) as load:
                load.wait_for(instants.randint(10, 300))
                told, sent = dict(load.accepted), len(sink.mails)
                disk.cut_power()
                run.kill()
            # A machine without power says nothing more: what came after the cut never was.
            accepted |= told
            del sink.mails[sent:]
            disk.power_up()
            verify(database)
            assert integrity(database) == "ok"
            assert accepted.items() <= stored(database).items()
        run = start(database).serving()
        mails = stored(database)
        until(lambda: set(recipients(sink)) == set(mails), within_s=30)
        assert run.terminate() == 0
        copies = Counter(recipients(sink))
        twice = {recipient for recipient, number in copies.items() if number > 1}
        assert twice <= uncertain_once(database)


@pytest.mark.parametrize(("synchronous", "loses"), [("FULL", False), ("NORMAL", True)])
def test_power_cut_takes_what_was_not_synced(tmp_path: Path, synchronous: str, loses: bool) -> None:
    """The control: this cut of the power does lose what was not synced, and only that."""
    with ext4(tmp_path) as disk:
        database = disk.path / "rows.db"
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(database), synchronous],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert writer.stdout is not None
        committed = [writer.stdout.readline() for _ in range(200)]
        disk.cut_power()
        writer.kill()
        writer.wait()
        disk.power_up()
        found = query(database, "SELECT n FROM rows")
        assert (len(found) < len(committed)) is loses

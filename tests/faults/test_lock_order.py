"""Commits and checkpoints exclude each other: watched from outside, at the level of syscalls.

SQLite libraries from 3.7.0 to 3.51.2 lose commits that race a checkpoint. Whatever the library,
they can't race if whoever writes to the database or its WAL holds the lock of `-lock` meanwhile.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from mailer.store.connection import Database
from mailer.store.library import has_wal_reset_bug
from mailer.store.migrate import migrate
from tests.faults.load import Load, integrity
from tests.faults.mailer_run import MailerRun, recipients
from tests.smtp_sink import SmtpSink
from tests.waiting import until

WRITES = "pwrite64,pwritev,pwritev2,write,writev,ftruncate,fallocate"

# A writer as SQLite's defaults make it: no lock of ours, and a checkpoint whenever it likes.
_PLAIN_WRITER = """
import sys
from mailer.store.connection import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for n in range(300):
    connection.execute("INSERT INTO sends VALUES (hex(zeroblob(10000)), ?, 1)", (n,))
"""


@dataclass
class Watched:
    """Who wrote to a database while holding its lock, and who without."""

    database: Path
    writes: Counter[str] = field(default_factory=Counter)
    """By name of the file."""
    without_lock: list[str] = field(default_factory=list)

    def read(self, trace: Path) -> None:
        """Go through what strace wrote; a line begins with the thread's id.

        A lock counts as given back when that call begins, as taken when that call has ended.
        """
        holder = ""
        asking: set[str] = set()
        names = {self.database.name + suffix for suffix in ("", "-wal", "-journal")}
        for line in trace.read_text().splitlines():
            thread, call = line.split(maxsplit=1)
            if thread in asking and call.startswith("<... flock resumed>"):
                asking.remove(thread)
                holder = thread if call.endswith("= 0") else holder
            match = re.match(rf"(\w+)\(\d+<{re.escape(str(self.database.parent))}/([^>]+)>", call)
            syscall, name = match.groups() if match else ("", "")
            if syscall == "flock" and name == f"{self.database.name}-lock":
                if "LOCK_UN" in call:
                    holder = ""
                elif "<unfinished" in call:
                    asking.add(thread)
                elif call.endswith("= 0"):
                    holder = thread
            elif syscall != "flock" and name in names:
                self.writes[name] += 1
                if thread != holder:
                    self.without_lock.append(line)


def strace(output: Path) -> tuple[str, ...]:
    """Run the command that follows, and watch all its threads and children."""
    return (
        *("strace", "-D", "-f", "--seccomp-bpf", "-y", "-qq", "-s", "0"),
        *("-o", str(output), "-e", f"trace=flock,{WRITES}"),
    )


def test_who_writes_holds_the_lock(
    tmp_path: Path, sink: SmtpSink, start: Callable[..., MailerRun]
) -> None:
    database = tmp_path / "mailer.db"
    watched = Watched(database)
    for life in ("first", "second"):
        trace = tmp_path / f"{life}.trace"
        run = start(database, under=strace(trace)).serving()
        live(run, sink)
        watched.read(trace)
    assert watched.writes["mailer.db"] > 200
    assert watched.writes["mailer.db-wal"] > 1000
    assert watched.without_lock == []
    assert integrity(database) == "ok"


def live(run: MailerRun, sink: SmtpSink) -> None:
    """Mail is accepted and sent until checkpoints have been made, and then all ends."""
    size = run.database.stat().st_size
    with Load(run, content="<p>Hello</p>" * 500) as load:
        until(lambda: run.database.stat().st_size > size + 500_000, within_s=30)
    until(lambda: load.accepted.keys() <= set(recipients(sink)), within_s=30)
    assert run.terminate() == 0
    until(lambda: not run.pids())


def test_the_watch_sees_who_does_not(tmp_path: Path) -> None:
    """The control."""
    database = tmp_path / "mailer.db"
    migrate(database)
    trace = tmp_path / "plain.trace"
    command = [*strace(trace), sys.executable, "-c", _PLAIN_WRITER, str(database)]
    command.remove("-D")
    subprocess.run(command, check=True)
    watched = Watched(database)
    watched.read(trace)
    found = Counter(re.findall(r"<[^>]*/(mailer\.db[^>]*)>", "\n".join(watched.without_lock)))
    assert found == watched.writes
    assert found["mailer.db"] > 100


def test_no_connection_checkpoints_by_itself(tmp_path: Path) -> None:
    migrate(tmp_path / "mailer.db")
    with closing(Database(tmp_path / "mailer.db")) as database:
        assert database.one("PRAGMA wal_autocheckpoint") == (0,)
        assert database.one("PRAGMA synchronous") == (2,)


def test_an_unfixed_library_serves_too(
    tmp_path: Path, sink: SmtpSink, start: Callable[..., MailerRun]
) -> None:
    """Without pysqlite3 the system's library is used, and named when it has the bug."""
    hidden = tmp_path / "hidden" / "pysqlite3"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError\n")
    path = f"{hidden.parent}:{':'.join(sys.path)}"
    database = tmp_path / "mailer.db"
    run = start(database, PYTHONPATH=path).serving()
    with Load(run) as load:
        load.wait_for(200)
    until(lambda: load.accepted.keys() <= set(recipients(sink)))
    assert run.terminate() == 0
    version = run.json("status")["sqlite"]
    unfixed = has_wal_reset_bug(tuple(map(int, version["version"].split("."))))
    assert version["wal_reset_bug"] is unfixed
    assert ("WAL-reset bug" in run.log) is unfixed
    assert integrity(database) == "ok"
    assert sorted(recipients(sink)) == sorted(load.accepted)

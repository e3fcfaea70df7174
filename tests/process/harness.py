"""All of mailer as real processes on a database of its own: started, watched, killed, stopped.

`Mailer` is `mailer run` with the recording transport of `plugins/`, or with SMTP to a `Sink`. What
its processes wrote down is read back from the transport's record and from the database.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mailer.clock import SystemClock
from tests.api.service import Service
from tests.store.recount import differences
from tests.waiting import until
from tests.weakened import Protection, mailer_command

PLUGINS = Path(__file__).parent / "plugins"
GUESTS = Path(__file__).parent / "guests"
LISTENERS = Path(__file__).parent / "listeners"
CLOCK = SystemClock()


@dataclass(frozen=True, order=True)
class HandOver:
    """One mail at the instant its transport was called, on the boot's monotonic clock."""

    at_us: int
    pid: int
    request_id: str


class Recording:
    """What a recording transport does and has been called with: its side of a directory."""

    def __init__(self, directory: Path, behaviour: Mapping[str, Any]) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self._told = directory / "behaviour.json"
        self._record = directory / "calls"
        self._record.touch()
        self.behave(**behaviour)

    def behave(self, **behaviour: Any) -> None:
        """Tell it what to do from the next call on."""
        new = self._told.with_suffix(".new")
        new.write_text(json.dumps(behaviour))
        new.replace(self._told)

    def hand_overs(self) -> list[HandOver]:
        """What it was called with, in order."""
        lines = self._record.read_text().rpartition("\n")[0].splitlines()  # the last may be short
        parts = (line.split() for line in lines)
        return sorted(HandOver(int(ns) // 1000, int(pid), mail) for ns, pid, mail in parts)


class Mailer(Service):
    """`mailer run`, or one half of it: `command="serve"`, `command="supervise"`."""

    def __init__(
        self,
        directory: Path,
        *,
        behaviour: Mapping[str, Any] | None = None,
        command: str = "run",
        plugins: Sequence[Path] = (),
        without: Protection | None = None,
        **settings: str,
    ) -> None:
        """With `plugins` beside the recording transport.

        `without` is missing in the first process, not in those it starts.
        """
        self._main = command
        self._without = without
        recording = Recording(directory, behaviour or {})
        self.behave, self.hand_overs = recording.behave, recording.hand_overs
        super().__init__(
            directory,
            {"TRANSPORT": "recorder", "RECORDER": str(directory), "SENDERS": "2", **settings},
            python_path=[PLUGINS, *plugins],
        )

    def _start(self) -> None:
        self.process = self.spawn(self._main, without=self._without)
        try:
            if self._main != "supervise":
                until(lambda: self._answers(self.process), within_s=30)
            if self.runs_supervisor:
                until(lambda: len(self.senders()) == int(self.environ["SENDERS"]), within_s=30)
        except BaseException:
            self.end()
            raise

    @property
    def runs_supervisor(self) -> bool:
        """Whether it sends by itself."""
        return self._main != "serve"

    def spawn(
        self,
        *command: str,
        under: Sequence[str] = (),
        without: Protection | None = None,
        **streams: Any,
    ) -> subprocess.Popen[bytes]:
        """One more process of this installation, perhaps under another program's watch."""
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [*under, *mailer_command(*command, without=without)],
                env=self.environ,
                cwd=self.directory,
                **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **streams},
            )

    def start_anew(self) -> None:
        """Start it again after its first process has ended; waits for nothing."""
        self.process.wait()
        self.process = self.spawn(self._main)

    def await_more(self, mails: int, within_s: float = 10.0) -> None:
        """Until so many more have been handed over than now."""
        so_far = len(self.hand_overs())
        until(lambda: len(self.hand_overs()) >= so_far + mails, within_s=within_s)

    def accepted(self, *emails: str, **fields: Any) -> list[str]:
        """Post one message; the ids of its mails."""
        top = {name: fields.pop(name) for name in ("scheduled_at",) if name in fields}
        message = {"emails": list(emails), "subject": "Hello", "content": "<p>Hello", **fields}
        answer = self.post("/v1/messages", {"messages": [message], **top})
        assert answer.status == 200, answer.body
        ids: list[str] = answer.json["messages"][0]["request_ids"]
        return ids

    def topic(self, topic_id: str) -> Any:
        return self.get(f"/v1/topics/{topic_id}").json

    def way(self, transport: str) -> dict[str, Any]:
        """What `mailer status` says of a transport."""
        status = subprocess.run(
            mailer_command("status", "--json"),
            env=self.environ,
            cwd=self.directory,
            capture_output=True,
            check=True,
        )
        found: list[dict[str, Any]] = json.loads(status.stdout)["transports"]
        return next(way for way in found if way["transport"] == transport)

    # What the database says.

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Read from the database file as it is now."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as db:
            return db.execute(sql, parameters).fetchall()

    def states(self) -> dict[str, int]:
        """How many mails are in each state."""
        return dict(self.rows("SELECT state, count(*) FROM mails GROUP BY state"))

    def finished(self) -> bool:
        return not {"pending", "sending", "uncertain"} & set(self.states())

    def uncertain_events(self) -> dict[str, int]:
        """How often each mail was uncertain, by its public id; mails that never were left out."""
        return dict(
            self.rows(
                "SELECT b.batch_id || '-' || (m.id - b.id), count(*) FROM events e"
                " JOIN mails m ON m.id = e.mail JOIN batches b ON b.id = m.batch"
                " WHERE e.type = 'uncertain' GROUP BY m.id"
            )
        )

    def assert_sound(self) -> None:
        """The file is whole and every counter equals a recount."""
        assert self.rows("PRAGMA integrity_check") == [("ok",)]
        assert differences(self.database) == []

    # Its processes.

    def senders(self) -> dict[str, int]:
        """The sender processes that are on record and live: name → pid."""
        on_record = {pid for (pid,) in self.rows("SELECT pid FROM senders")}
        living = {name: pid for name, pid in self.children().items() if name.startswith("sender")}
        return {name: pid for name, pid in living.items() if pid in on_record}

    def children(self) -> dict[str, int]:
        """Child processes of the supervisor: `serve`, `sender 0`, … → pid."""
        found = {}
        for pid in children_of(self.process.pid):
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                if "mailer" in words:
                    name = " ".join(words[words.index("mailer") + 1 :]).strip()
                    found[name.removesuffix(" --until-stdin-ends")] = pid
        return found

    def workers(self) -> list[int]:
        """Process ids of the API workers."""
        serve = self.process.pid if self._main == "serve" else self.children().get("serve", 0)
        return children_of(serve)

    def kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Whatever state it is in: nothing of it is left."""
        family = [self.process.pid, *self.children().values(), *self.workers()]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=15)
        for pid in family:
            self.kill(pid)
        self.process.wait()


def children_of(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in children.split()]


class Sink:
    """The SMTP sink as a process of its own, which survives whatever is killed."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._record = directory / "sink.jsonl"
        self._record.touch()
        self._lines = self._record.open()
        self._mails: list[HandOver] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.smtp_sink", "--record", str(self._record), *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
        )
        output: IO[bytes] | None = self._process.stdout
        assert output is not None
        self.url = f"smtp://127.0.0.1:{int(output.readline())}?starttls=off"

    def mails(self) -> list[HandOver]:
        """What arrived, at the instant it had wholly arrived; `pid` is 0."""
        while (line := self._lines.readline()).endswith("\n"):
            entry = json.loads(line)
            request_id = entry["message_id"].strip("<>").partition("@")[0]
            self._mails.append(HandOver(entry["mono_us"], 0, request_id))
        return self._mails

    def await_more(self, mails: int, within_s: float = 10.0) -> None:
        """Until so many more have arrived than now."""
        so_far = len(self.mails())
        until(lambda: len(self.mails()) >= so_far + mails, within_s=within_s)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It lives and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._lines.close()


def addresses(count: int, prefix: str = "reader") -> list[str]:
    return [f"{prefix}{n:06}@example.com" for n in range(count)]


def most_in_a_second(instants_us: Sequence[int]) -> int:
    """The most hand-overs any window of one second holds."""
    return most_in(1.0, instants_us)


def most_in(window_s: float, instants_us: Sequence[int]) -> int:
    """The most hand-overs any window of that length holds."""
    instants_us = sorted(instants_us)
    most = first = 0
    for last, at_us in enumerate(instants_us):
        while instants_us[first] <= at_us - int(window_s * 1_000_000):
            first += 1
        most = max(most, last - first + 1)
    return most

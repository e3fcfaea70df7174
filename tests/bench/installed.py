"""mailer under load: real processes over a database that already holds what the figure needs."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mailer.hookspecs import Outcome
from mailer.mail import Content, NewBatch, NewMessage, Recipient
from mailer.store import Store
from mailer.store.migrate import migrate
from mailer.store.outcomes import Rules
from mailer.store.queue import Ask
from mailer.store.sent import Attempted
from mailer.vocabulary import Lane, OutcomeKind, UncertainPolicy
from tests.api.service import Service
from tests.store.recount import differences

HERE = Path(__file__).parent
RULES = Rules(10**9, 10**6, UncertainPolicy.RESEND)
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
BATCH = 10_000


class Bench(Service):
    """`mailer run`, or one half of it, with the null transport unless told otherwise."""

    def __init__(self, directory: Path, *, command: str = "run", **settings: str) -> None:
        self._main = command
        super().__init__(
            directory,
            {
                "TRANSPORT": "null",
                "MAX_SEND_PER_SECOND": "unlimited",
                "API_WORKERS": "2",
                "LOG_LEVEL": "WARNING",
                **settings,
            },
            python_path=[HERE / "plugins"],
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        return [*super()._command()[:-1], self._main]

    def _start(self) -> None:
        if self._main == "supervise":
            with self.log_path.open("ab") as log:
                self.process = subprocess.Popen(
                    self._command(), env=self.environ, cwd=self.directory, stderr=log, stdout=log
                )
        else:
            super()._start()

    def cpu_s(self) -> float:
        """CPU time of all its processes so far."""
        return sum(_cpu_s(pid) for pid in self.pids())

    def memory_bytes(self) -> int:
        """Memory of all its processes; what they share is counted once."""
        return sum(_memory_bytes(pid) for pid in self.pids())

    def pids(self) -> list[int]:
        found, new = [self.process.pid], [self.process.pid]
        while new:
            children = Path(f"/proc/{new[0]}/task/{new.pop(0)}/children").read_text().split()
            found += map(int, children)
            new += map(int, children)
        return found

    def check(self) -> None:
        """Counters equal a recount: what was measured was work done right."""
        assert differences(self.database) == []


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def _memory_bytes(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    match = re.search(r"^Pss: +(\d+) kB", rollup, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def filled(
    database: Path,
    mails: int,
    *,
    transport: str = "null",
    topics: int = 10,
    sent: bool = False,
    html: str = "<p>Hello, this is the news.</p>" * 10,
) -> None:
    """Store so many mails, in batches of 10,000; with `sent` they are done, as old mail is."""
    if not database.exists():
        migrate(database)
    with closing(Store(database, RULES)) as store:
        for first in range(0, mails, BATCH):
            people = tuple(
                Recipient(f"reader{number}@example.org")
                for number in range(first, min(mails, first + BATCH))
            )
            topic_id = f"news/{first // BATCH % topics}"
            content = Content("The news", html=html, topic_id=topic_id, lane=Lane.BULK)
            now_ms = time.time_ns() // 1_000_000
            batch = NewBatch(
                secrets.token_hex(14), (NewMessage(content, people),), transport, now_ms, now_ms
            )
            with store.write():
                store.batches.accept(batch, max_queued=10**12)
            if sent:
                send_all(store, transport)


def send_all(store: Store, transport: str) -> None:
    """Claim and record all that waits, as a sender would."""
    taken = Outcome(OutcomeKind.ACCEPTED, "taken")
    everything = Ask(
        sender=0,
        transport=transport,
        queues=(transport,),
        rates={},
        batch_size=BATCH,
        calls=1,
        calls_bulk=1,
    )
    while True:
        now_ms = time.time_ns() // 1_000_000
        with store.write():
            claim = store.queue.claim(everything, now_ms=now_ms, now_us=0)
        attempts = [
            Attempted(mail.id, taken, now_ms, now_ms) for one in claim.leases for mail in one.mails
        ]
        if not attempts:
            return
        with store.write():
            store.outcomes.record(attempts, now_ms=now_ms, jitter=lambda: 0.0)


@dataclass(frozen=True)
class Load:
    """What `wrk` measured."""

    requests: int
    refused: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


def wrk(url: str, script: str, *arguments: str, seconds: int, connections: int = 64) -> Load:
    """Run Debian's `wrk` with a Lua script of this directory."""
    done = subprocess.run(
        [
            "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
            "-s", str(HERE / script), url, "--", *arguments,
        ],
        capture_output=True, text=True, check=True, timeout=seconds + 60,
    )  # fmt: skip
    text = done.stdout
    total = re.search(r"(\d+) requests in ([\d.]+)(\w+),", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    assert total, text
    return Load(
        requests=int(total[1]),
        refused=int(refused[1]) if refused else 0,
        seconds=float(total[2]) * {"s": 1, "m": 60}[total[3]],
        p50_ms=_percentile_ms(text, "50%"),
        p99_ms=_percentile_ms(text, "99%"),
    )


def _percentile_ms(text: str, percentile: str) -> float:
    match = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)", text)
    assert match, text
    return float(match[1]) * {"us": 0.001, "ms": 1, "s": 1000}[match[2]]

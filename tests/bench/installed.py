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
from mailer.store.sent import Attempted
from mailer.vocabulary import Lane, OutcomeKind, UncertainPolicy
from tests.api.service import Service
from tests.store.recount import differences
from tests.store.world import ask

HERE = Path(__file__).parent
RULES = Rules(10**9, 10**6, UncertainPolicy.RESEND)
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
BATCH = 10_000
TOPICS = 10
NO_BOUND = {"MAX_QUEUED": "1000000000", "RETENTION_DAYS": "3650"}
HTML = "<p>Hello, this is the news.</p>" * 10


class Bench(Service):
    """`mailer run`, or one half of it, with the null transport unless told otherwise.

    Nothing old is pruned and nothing refused for a full queue. A context: it ends with the block.
    """

    def __init__(self, directory: Path, *, command: str = "run", **settings: str) -> None:
        self._main = command
        super().__init__(
            directory,
            {
                "TRANSPORT": "null",
                "MAX_SEND_PER_SECOND": "unlimited",
                "API_WORKERS": "2",
                "LOG_LEVEL": "WARNING",
                **NO_BOUND,
                **settings,
            },
            python_path=[HERE / "plugins"],
        )

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command_of(self, name: str) -> list[str]:
        """How to run one of mailer's commands."""
        return [*super()._command()[:-1], name]

    def _command(self) -> list[str]:
        return self.command_of(self._main)

    def _start(self) -> None:
        if self._main == "supervise":
            with self.log_path.open("ab") as log:
                self.process = subprocess.Popen(
                    self._command(), env=self.environ, cwd=self.directory, stderr=log, stdout=log
                )
            return
        try:
            super()._start()
        except BaseException:
            self.stop()
            raise

    def cpu_s(self) -> float:
        """CPU time of all its processes so far."""
        return sum(_cpu_s(pid) for pid in self.pids())

    def memory_bytes(self) -> int:
        """Memory of all its processes; what they share is counted once."""
        return sum(_memory_bytes(pid) for pid in self.pids())

    def descriptors(self) -> int:
        """Open files and sockets of all its processes."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids())

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
    sent: bool = False,
    first: int = 0,
    age_ms: int = 0,
) -> list[tuple[str, int]]:
    """Store so many mails, in batches of 10,000, to readers numbered from `first` on.

    With `sent` they are done, as old mail is. The batches' ids and how many mails each holds.
    """
    if not database.exists():
        migrate(database)
    batches = []
    with closing(Store(database, RULES)) as store:
        for begin in range(first, first + mails, BATCH):
            end = min(first + mails, begin + BATCH)
            people = tuple(Recipient(f"reader{n}@example.org") for n in range(begin, end))
            topic_id = f"news/{begin // BATCH % TOPICS}"
            content = Content("The news", html=HTML, topic_id=topic_id, lane=Lane.BULK)
            accepted_at_ms = time.time_ns() // 1_000_000 - age_ms
            batch_id = secrets.token_hex(14)
            message = NewMessage(content, people)
            batch = NewBatch(batch_id, (message,), transport, accepted_at_ms, accepted_at_ms)
            with store.write():
                store.batches.accept(batch, max_queued=10**12)
            if sent:
                send_all(store, transport, age_ms)
            batches.append((batch_id, end - begin))
            store.housekeeping.checkpoint()  # or the WAL becomes as large as all that is stored
    return batches


def send_all(store: Store, transport: str, age_ms: int = 0) -> None:
    """Claim and record all that waits, as a sender would have so long ago."""
    taken = Outcome(OutcomeKind.ACCEPTED, "taken")
    everything = ask(sender=0, transport=transport, batch_size=BATCH, calls=1)
    while True:
        now_ms = time.time_ns() // 1_000_000 - age_ms
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

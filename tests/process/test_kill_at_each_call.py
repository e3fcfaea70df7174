"""A process killed at the n-th system call of one mail's life, for every n: nothing is lost.

strace ends an API worker, a sender or a supervisor at an exact write to the database, sync of it,
or send to a socket; then others go on. Wherever that was, the mail that was accepted arrives, and
a second copy only where it was told as uncertain. strace counts the calls of each thread.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.counts import FULL
from tests.faults.fault import attached, killed_at
from tests.process.harness import Mailer, Sink, children_of
from tests.waiting import until

Start = Callable[..., Mailer]

SYNC = "fsync,fdatasync"
BEFORE_THE_DATA = ("sendto", 4)
"""A sender has sent the mail's envelope to the SMTP server, not its data."""
AFTER_THE_ANSWER = ("sendto", 5)
"""The session has its answer and wakes the main thread, which has not recorded it."""


def sender_is_killed(mailer: Mailer, syscall: str, number: int) -> tuple[str, bool]:
    """It registers, claims, hands over, records and stops. (the mail, whether it was killed)."""
    (mail,) = mailer.accepted("one@example.com")
    sender = mailer.spawn("sender", "0", under=killed_at(syscall, number), stdin=subprocess.PIPE)
    until(lambda: sender.poll() is not None or mailer.finished(), within_s=30)
    assert sender.stdin is not None
    sender.stdin.close()
    return mail, sender.wait(timeout=15) != 0


def worker_is_killed(mailer: Mailer, syscall: str, number: int) -> tuple[str, bool]:
    """It stores the mail, wakes a sender and answers; a client without an answer asks again."""
    (worker,) = until(mailer.workers)
    message = {"emails": ["one@example.com"], "subject": "s", "content": "<p>c"}
    key = {"Idempotency-Key": f"{syscall} {number}"}
    with attached(worker, killed_at(syscall, number)):
        (mail,) = answered(mailer, json.dumps({"messages": [message]}).encode(), key)
        until(mailer.finished, within_s=30)
        until(mailer.workers)
        return mail, mailer.workers() != [worker]


def answered(mailer: Mailer, body: bytes, key: Mapping[str, str]) -> list[str]:
    while True:
        with suppress(OSError, http.client.HTTPException):
            answer = mailer.post("/v1/messages", body, key)
            assert answer.status == 200, answer.body
            ids: list[str] = answer.json["messages"][0]["request_ids"]
            return ids


def supervisor_is_killed(mailer: Mailer, syscall: str, number: int) -> tuple[str, bool]:
    """It rescues and settles the mail of a sender that was killed, makes checkpoints and stops."""
    mail, sender_killed = sender_is_killed(mailer, *BEFORE_THE_DATA)
    assert sender_killed
    under = killed_at(syscall, number, children=False)
    supervisor = mailer.spawn("supervise", under=under)
    until(lambda: supervisor.poll() is not None or mailer.finished(), within_s=30)
    for traced in children_of(supervisor.pid):
        os.kill(traced, signal.SIGTERM)
    return mail, supervisor.wait(timeout=15) != 0


@dataclass(frozen=True)
class Victim:
    """Who is killed, in what: `mailer serve` alone or `mailer run`."""

    kill: Callable[[Mailer, str, int], tuple[str, bool]]
    sample: Mapping[str, Sequence[int]]
    """The calls it may be killed at, and those tried without MAILER_FULL."""
    command: str = "serve"


VICTIMS = {
    "sender": Victim(sender_is_killed, {"pwrite64": (24, 45), SYNC: (1, 5), "sendto": (4,)}),
    "worker": Victim(
        worker_is_killed,
        {"pwrite64": (20,), SYNC: (1,), "sendto": (1,), "write": (2,)},  # the answer's head
        command="run",
    ),
    "supervisor": Victim(supervisor_is_killed, {"pwrite64": (12, 60), SYNC: (4,), "sendto": ()}),
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", VICTIMS)
def test_a_mail_survives_a_kill_at_every_call(start: Start, smtp_sink: Sink, name: str) -> None:
    victim = VICTIMS[name]
    mailer = prepared(start, smtp_sink, victim.command)
    mails: dict[str, bool] = {}
    for syscall, sample in victim.sample.items():
        killed: list[bool] = []
        numbers = iter(sample)
        while killed[-1:] != [False] if FULL else len(killed) < len(sample):
            number = len(killed) + 1 if FULL else next(numbers)
            mail, was_killed = victim.kill(mailer, syscall, number)
            finish(mailer)
            mails[mail] = was_killed
            killed.append(was_killed)
        assert sum(killed) >= len(sample)
        print(f"\n{name}: killed at {sum(killed)} calls of {syscall}", end="")
    copies, uncertain = ledger(mailer, smtp_sink, mails)
    print(f"; copies {sorted(Counter(copies.values()).items())}, uncertain {len(uncertain)}")


def test_control_killed_between_the_answer_and_its_record_there_are_two(
    start: Start, smtp_sink: Sink
) -> None:
    """The second copies that the other tests count do happen."""
    mailer = prepared(start, smtp_sink, "serve")
    mail, killed = sender_is_killed(mailer, *AFTER_THE_ANSWER)
    finish(mailer)
    copies, uncertain = ledger(mailer, smtp_sink, [mail])
    assert (killed, copies[mail], uncertain[mail]) == (True, 2, 1)


def prepared(start: Start, smtp_sink: Sink, command: str) -> Mailer:
    """A mailer whose WAL is so large that each supervisor makes a checkpoint."""
    mailer = start(
        command=command,
        TRANSPORT="smtp",
        SMTP_URL=smtp_sink.url,
        SENDERS="1",
        MAX_SEND_PER_SECOND="unlimited",
    )
    mailer.accepted("first@example.com", content="x" * 1_500_000, topic_id="first")
    finish(mailer)
    return mailer


def finish(mailer: Mailer) -> None:
    """Nothing is left to do: by the supervisor that runs, else by one that comes and goes."""
    if mailer.runs_supervisor:
        until(mailer.finished, within_s=30)
    elif not mailer.finished():
        supervisor = mailer.spawn("supervise")
        try:
            until(mailer.finished, within_s=30)
        finally:
            supervisor.terminate()
            assert supervisor.wait(timeout=15) == 0


def ledger(
    mailer: Mailer, smtp_sink: Sink, mails: Sequence[str] | Mapping[str, bool]
) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """(copies, uncertain) of these mails, which are all there are; none lost, no copy untold."""
    mailer.assert_sound()
    copies = Counter(arrived.request_id for arrived in smtp_sink.mails())
    uncertain = mailer.uncertain_events()
    (first,) = copies.keys() - set(mails)
    del copies[first]
    for mail in mails:
        assert 1 <= copies[mail] <= 1 + uncertain.get(mail, 0), mail
        assert uncertain.get(mail, 0) <= 1
    return copies, uncertain

"""A sender killed at the n-th system call of one mail's life, for every n: nothing is lost.

strace ends the process at an exact write to the database, sync of it, or send to the SMTP server;
then a supervisor takes over. Wherever that was, the mail arrives, and a second copy only where it
was told as uncertain.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.counts import FULL
from tests.faults.fault import killed_at
from tests.process.harness import Mailer, Sink
from tests.waiting import until

Start = Callable[..., Mailer]

SAMPLE = {"pwrite64": (24, 45), "fsync,fdatasync": (1, 5), "sendto": (4,)}
"""Without MAILER_FULL: registering, claiming and recording; the mail's envelope and its data."""
AFTER_THE_ANSWER = ("sendto", 5)
"""The session has its answer and wakes the main thread, which has not recorded it."""


class OneMail:
    """An API that accepts, a sender under strace that is killed, a supervisor that goes on."""

    def __init__(self, mailer: Mailer, smtp_sink: Sink) -> None:
        self._mailer = mailer
        self._sink = smtp_sink
        self._supervise()  # it makes the reserve, without which nothing is handed over

    def _supervise(self) -> None:
        """Until nothing is left to do."""
        reserve = self._mailer.database.with_name(self._mailer.database.name + "-reserve")
        if reserve.exists() and self._mailer.finished():
            return
        supervisor = self._mailer.spawn("supervise")
        try:
            until(lambda: reserve.exists() and self._mailer.finished(), within_s=30)
        finally:
            supervisor.terminate()
            assert supervisor.wait(timeout=15) == 0

    def killed_at(self, syscall: str, number: int) -> tuple[bool, int]:
        """(whether the sender was killed there, how many copies of the mail came)."""
        (mail,) = self._mailer.accepted("one@example.com")
        sender = self._mailer.spawn(
            "sender", "0", under=killed_at(syscall, number), stdin=subprocess.PIPE
        )
        until(lambda: sender.poll() is not None or self._mailer.finished(), within_s=30)
        assert sender.stdin is not None
        sender.stdin.close()
        killed = sender.wait(timeout=15) != 0
        self._supervise()
        copies = [arrived.request_id for arrived in self._sink.mails()].count(mail)
        uncertain = self._mailer.uncertain_events().get(mail, 0)
        assert 1 <= copies <= 1 + uncertain, (syscall, number, copies, uncertain)
        assert uncertain <= 1
        return killed, copies


@pytest.fixture
def one_mail(start: Start, smtp_sink: Sink) -> OneMail:
    mailer = start(
        command="serve",
        TRANSPORT="smtp",
        SMTP_URL=smtp_sink.url,
        SENDERS="1",
        MAX_SEND_PER_SECOND="unlimited",
    )
    return OneMail(mailer, smtp_sink)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("syscall", SAMPLE)
def test_a_mail_survives_its_sender_at_every_call(one_mail: OneMail, syscall: str) -> None:
    outcomes: list[tuple[bool, int]] = []
    if FULL:
        while not outcomes or outcomes[-1][0]:
            outcomes.append(one_mail.killed_at(syscall, len(outcomes) + 1))
        assert len(outcomes) > len(SAMPLE[syscall])
    else:
        outcomes = [one_mail.killed_at(syscall, number) for number in SAMPLE[syscall]]
        assert all(killed for killed, _ in outcomes)
    copies = [copies for _, copies in outcomes]
    print(f"\n{syscall}: killed at {sum(killed for killed, _ in outcomes)} calls, copies {copies}")


def test_control_killed_between_the_answer_and_its_record_there_are_two(one_mail: OneMail) -> None:
    """The second copies that the other tests count do happen."""
    assert one_mail.killed_at(*AFTER_THE_ANSWER) == (True, 2)

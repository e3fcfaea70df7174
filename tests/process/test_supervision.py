"""One supervisor for each database; stuck senders replaced, slow ones left in peace; SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mailer.sender import LEASE_US
from mailer.store import Store
from mailer.store.outcomes import Rules
from mailer.store.verify import verify
from mailer.vocabulary import UncertainPolicy
from tests import weakened
from tests.counts import FULL
from tests.process.harness import CLOCK, Mailer, addresses, most_in_a_second
from tests.waiting import until

Start = Callable[..., Mailer]

LEASE_S = LEASE_US / 1e6
TERMS = 50 if FULL else 3
RATE = 100


def said(mailer: Mailer, *command: str) -> tuple[int, str]:
    """Run one more command of this installation to its end: its status and what it said."""
    process = mailer.spawn(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = process.communicate(timeout=30)
    return process.returncode, output.decode()


def test_a_second_supervisor_refuses_even_while_the_first_is_frozen(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE))
    frozen_s = LEASE_S + 3 if FULL else 4
    mails = mailer.accepted(*addresses(int(RATE * (frozen_s + 8))))
    first = mailer.process.pid
    frozen_us = CLOCK.mono_us()
    os.kill(first, signal.SIGSTOP)
    refusals = []
    while CLOCK.mono_us() < frozen_us + frozen_s * 1e6:
        refusals.append(said(mailer, "supervise"))
        mailer.await_more(RATE, within_s=6)
    os.kill(first, signal.SIGCONT)
    refusals.append(said(mailer, "supervise"))
    assert {status for status, _ in refusals} == {1}
    assert all(f"pid {first}" in words for _, words in refusals), refusals
    until(mailer.finished, within_s=30)
    calls = mailer.hand_overs()
    assert sorted(call.request_id for call in calls) == sorted(mails)
    assert most_in_a_second([call.at_us for call in calls]) <= RATE
    mailer.assert_sound()


def test_control_the_lock_is_what_keeps_the_second_out(start: Start) -> None:
    """With the lock's file gone a second supervisor works on the same database."""
    mailer = start(MAX_SEND_PER_SECOND=str(RATE))
    mailer.database.with_name(mailer.database.name + "-supervisor").unlink()
    second = mailer.spawn("supervise")
    try:
        until(lambda: len(mailer.rows("SELECT pid FROM senders")) == 4, within_s=20)
    finally:
        second.terminate()
        second.wait()


def test_a_frozen_sender_is_replaced_and_a_slow_one_left_in_peace(start: Start) -> None:
    """The slow call lasts longer than a lease; what the frozen sender had in flight is settled."""
    slow_ms = LEASE_US // 1000 + 5_000
    mailer = start(
        MAX_SEND_PER_SECOND=str(RATE),
        behaviour={"delay_ms": 50, "slow_ms": slow_ms, "call_timeout_s": 90},
    )
    (slow,) = mailer.accepted("slow@example.com")
    until(mailer.hand_overs)
    at_work = mailer.hand_overs()[0].pid
    mails = mailer.accepted(*addresses(RATE * 3))
    until(lambda: len(mailer.hand_overs()) > RATE)
    (name, frozen) = next(item for item in mailer.senders().items() if item[1] != at_work)
    os.kill(frozen, signal.SIGSTOP)
    frozen_us = CLOCK.mono_us()
    until(lambda: mailer.senders().get(name, frozen) != frozen, within_s=LEASE_S + 5)
    replaced_s = (CLOCK.mono_us() - frozen_us) / 1e6
    until(mailer.finished, within_s=20)
    print(f"\nreplaced {replaced_s:.1f} s after it froze")
    assert replaced_s <= LEASE_S + 3
    assert at_work in mailer.senders().values()
    calls = Counter(call.request_id for call in mailer.hand_overs())
    assert set(calls) == {slow, *mails}
    uncertain = mailer.uncertain_events()
    assert slow not in uncertain
    assert all(count - 1 <= uncertain.get(mail, 0) for mail, count in calls.items())
    mailer.assert_sound()


def test_control_without_a_look_at_the_living_a_slow_call_is_made_twice(start: Start) -> None:
    mailer = start(command="serve", behaviour={"slow_ms": 20_000})
    with closing(mailer.store()) as store:
        store.housekeeping.keep_reserve()
    (slow,) = mailer.accepted("slow@example.com")
    slow_sender = mailer.spawn("sender", "0", stdin=subprocess.PIPE)
    until(mailer.hand_overs)
    supervisor = mailer.spawn("supervise", without=weakened.look_at_the_living)
    try:
        until(lambda: len(mailer.hand_overs()) == 2, within_s=15)
        assert slow_sender.poll() is None
    finally:
        for process in (supervisor, slow_sender):
            process.kill()
            process.wait()
    assert mailer.uncertain_events() == {slow: 1}


def test_a_call_that_outlasts_its_promise_is_uncertain_and_the_rest_goes_on(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE), behaviour={"call_timeout_s": 2})
    (hanging,) = mailer.accepted("hang@example.com", topic_id="hangs")
    mails = mailer.accepted(*addresses(RATE * 2))
    until(lambda: hanging in mailer.uncertain_events(), within_s=10)
    until(lambda: set(mails) <= {call.request_id for call in mailer.hand_overs()}, within_s=10)
    mailer.request("DELETE", f"/v1/mails/{hanging}")


def test_sigterm_under_load_leaves_nothing_open(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="200", behaviour={"delay_ms": 50})
    mails: list[str] = []
    longest_s = 0.0
    for _ in range(TERMS):
        mails += mailer.accepted(*addresses(300))
        mailer.await_more(50)
        asked_us = CLOCK.mono_us()
        assert mailer.stop() == 0
        longest_s = max(longest_s, (CLOCK.mono_us() - asked_us) / 1e6)
        assert "uncertain" not in mailer.states()
        assert "sending" not in mailer.states()
        assert mailer.rows("SELECT * FROM senders") == []
        assert mailer.rows("SELECT * FROM slots WHERE until_us > ?", CLOCK.mono_us()) == []
        mailer.restart()
    until(mailer.finished, within_s=10 + 2 * TERMS)
    print(f"\n{TERMS} times SIGTERM: longest {longest_s:.2f} s")
    assert longest_s <= 10
    assert mailer.uncertain_events() == {}
    assert sorted(call.request_id for call in mailer.hand_overs()) == sorted(mails)
    assert most_in_a_second([call.at_us for call in mailer.hand_overs()]) <= 200
    mailer.assert_sound()


def test_control_sigkill_leaves_mail_uncertain(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="200", behaviour={"delay_ms": 50})
    mailer.accepted(*addresses(300))
    until(lambda: len(mailer.hand_overs()) > 50)
    for pid in mailer.senders().values():
        mailer.kill(pid)
    until(mailer.uncertain_events)


def test_a_second_sigterm_harms_nothing(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="200", behaviour={"delay_ms": 1_000})
    mailer.accepted(*addresses(300))
    until(lambda: len(mailer.hand_overs()) > 20)
    mailer.process.send_signal(signal.SIGTERM)
    mailer.process.send_signal(signal.SIGTERM)
    assert mailer.stop() == 0
    assert set(mailer.states()) <= {"pending", "sent"}
    mailer.assert_sound()


@pytest.mark.alone
def test_sigterm_to_a_supervisor_with_a_hanging_call_ends_it_in_time(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="200")
    (hanging,) = mailer.accepted("hang@example.com")
    until(mailer.hand_overs)
    asked_us = CLOCK.mono_us()
    assert mailer.stop() == 0
    stopped_s = (CLOCK.mono_us() - asked_us) / 1e6
    assert stopped_s <= 10
    assert mailer.uncertain_events() == {hanging: 1}


def test_sigterm_during_migrate_leaves_nothing_that_the_next_can_not_finish(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    migrate = [sys.executable, "-m", "mailer", "migrate"]
    statuses = set()
    for number in range(1, 60, 1 if FULL else 10):
        database = tmp_path / f"{number}.db"
        environ["DATABASE_URL"] = f"sqlite://{database}"
        inject = ["-e", f"inject=pwrite64:signal=SIGTERM:when={number}"]
        strace = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", *inject]
        statuses.add(subprocess.run([*strace, *migrate], env=environ, check=False).returncode)
        subprocess.run(migrate, env=environ, check=True)
        verify(database)
        Store(database, Rules(0, 0, UncertainPolicy.RESEND)).close()
    assert -signal.SIGTERM in statuses

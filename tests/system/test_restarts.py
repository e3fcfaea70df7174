"""What is restarted, killed or stuck under systemd costs no call, no mail, and little time."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.counts import FULL
from tests.system.load import Load
from tests.system.machine import Machine
from tests.waiting import until

pytestmark = pytest.mark.alone  # they share one machine

RESTARTS = 20 if FULL else 3
PER_SECOND = 200
WATCHDOG_S = 6
RESUMES_WITHIN_S = 15


def test_a_restart_of_the_api_refuses_nobody(installed: Machine) -> None:
    with Load(installed, per_second=PER_SECOND) as load:
        for _ in range(RESTARTS):
            load.wait_for_more(PER_SECOND)
            installed.run("systemctl", "restart", "mailer-api")
    print(f"\n{len(load.accepted)} posts, the longest took {load.longest_s:.2f} s")
    assert load.failures == []
    installed.sent(*load.accepted, within_s=60)


def test_without_the_socket_unit_calls_fail(installed: Machine) -> None:
    """The control: the same API holds its port itself."""
    installed.run(
        *("systemd-run", "--unit=mailer-control", "--setenv=BIND=127.0.0.1:3001"),
        *("/opt/mailer/current/bin/mailer", "serve"),
    )
    until(lambda: installed.try_run("curl", "-fs", "http://127.0.0.1:3001/ready").returncode == 0)
    with Load(installed, per_second=PER_SECOND, port=3001) as load:
        load.wait_for_more(PER_SECOND)
        installed.run("systemctl", "restart", "mailer-control")
        load.wait_for_more(PER_SECOND)
    installed.run("systemctl", "stop", "mailer-control")
    assert any("ConnectionRefused" in failure for failure in load.failures)


def test_a_stuck_supervisor_is_replaced_and_sending_resumes(installed: Machine) -> None:
    began = time.monotonic()
    get_stuck(installed)
    installed.post("resumed@example.com")
    installed.sent("resumed@example.com", within_s=RESUMES_WITHIN_S)
    print(f"\nresumed after {time.monotonic() - began:.1f} s")
    told = installed.journal("-b", "-u", "mailer-failure@mailer-supervisor.service.service")
    assert "mailer-supervisor.service has failed" in told


def test_without_the_watchdog_nobody_helps_it(installed: Machine) -> None:
    """The control."""
    drop_in = "/run/systemd/system/mailer-supervisor.service.d/control.conf"
    installed.write(drop_in, "[Service]\nWatchdogSec=0\n")
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "restart", "mailer-supervisor")
    deadline = time.monotonic() + WATCHDOG_S + 2
    get_stuck(installed)
    installed.post("stuck@example.com")
    until(lambda: time.monotonic() > deadline, within_s=WATCHDOG_S + 3)
    assert "stuck@example.com" not in installed.recipients()
    installed.run("rm", drop_in)
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "kill", "--signal=KILL", "mailer-supervisor")
    installed.sent("stuck@example.com")


def get_stuck(machine: Machine) -> None:
    """The supervisor's loop stands still, and there is no sender any more."""
    main = machine.property("mailer-supervisor", "MainPID")
    machine.run("kill", "-STOP", main)
    machine.run("kill", "-KILL", *machine.run("pgrep", "-P", main).split())


def test_a_crash_of_everything_at_once_loses_nothing(installed: Machine) -> None:
    """All processes are killed in the middle of accepting and sending; then the host boots."""
    installed.settings(MAX_SEND_PER_SECOND="100")
    with Load(installed, per_second=PER_SECOND) as load:
        load.wait_for_more(3 * PER_SECOND)
        installed.crash()
    unsent = set(load.accepted) - set(installed.recipients())
    assert len(unsent) > PER_SECOND // 2, "the crash came too late to prove anything"
    installed.settings(MAX_SEND_PER_SECOND="unlimited")
    installed.sent(*load.accepted, within_s=60)
    copies = Counter(installed.recipients())
    twice = {email for email in load.accepted if copies[email] > 1}
    uncertain = installed.query(
        "SELECT recipient FROM mails WHERE id IN (SELECT mail FROM events WHERE type = 'uncertain')"
    )
    assert twice <= {recipient for (recipient,) in uncertain}

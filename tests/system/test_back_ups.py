"""Back-ups of a service that runs, put back as the README and Litestream's sample say: held."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.load import Load
from tests.system.machine import ROOT, SOURCES, Machine, readme_lines
from tests.waiting import until

pytestmark = pytest.mark.alone  # they share one machine

PER_SECOND = 100
STATES = "SELECT state, count(*) FROM mails GROUP BY state"
BACK_UPS = "/var/lib/mailer/backups"
KEPT = 14
LITESTREAM = Path(sys.executable).with_name("litestream")
UNIT = "/etc/systemd/system/mailer-litestream.service"
COPIES = "/var/lib/mailer/copies"
LOOK = "/var/lib/mailer/look.db"
SAMPLE = (ROOT / "deploy" / "litestream.yml").read_text()


def test_each_night_one_is_made_and_the_oldest_goes(installed: Machine) -> None:
    old = [f"{BACK_UPS}/mailer-20200101T0000{number:02}Z.db" for number in range(KEPT)]
    installed.run("install", "-d", "-o", "mailer", "-g", "mailer", BACK_UPS)
    installed.run("touch", *old)
    with Load(installed, per_second=PER_SECOND) as load, the_clock_at_night(installed):
        (made,) = until(lambda: set(back_ups(installed)) - set(old), within_s=30)
        load.wait_for_more(PER_SECOND)
    assert load.failures == []
    assert back_ups(installed) == [*old[1:], made]
    assert installed.run("stat", "-c", "%U %a", made) == "mailer 600"
    noted = "SELECT last_backup_at_ms IS NOT NULL FROM meta"  # what /metrics tells
    until(lambda: installed.query(noted) == [[1]])
    assert installed.query("PRAGMA integrity_check", made) == [["ok"]]
    assert installed.query("SELECT count(*) FROM mails", made) > [[0]]
    installed.sent(*load.accepted, within_s=60)


@contextmanager
def the_clock_at_night(machine: Machine) -> Iterator[None]:
    """The timer's hour has come."""
    drop_in = "/run/systemd/system/mailer-backup.timer.d/night.conf"
    machine.write(drop_in, "[Timer]\nOnActiveSec=1s\nAccuracySec=1ms\nRandomizedDelaySec=0\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "mailer-backup.timer")
    try:
        yield
    finally:
        machine.run("rm", drop_in)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", "mailer-backup.timer")


def back_ups(machine: Machine) -> list[str]:
    """Those that have their name, in the order in which they were made."""
    return sorted(f"{BACK_UPS}/{path.name}" for path in machine.path(BACK_UPS).glob("mailer-*.db"))


def test_the_readme_s_lines_put_one_back_held(installed: Machine) -> None:
    back_up, stop, restore, start, release = readme_lines("### Back-ups")
    waiting = [f"before{number}@example.com" for number in range(20)]
    with paused(installed):
        installed.post(*waiting)
        installed.run("bash", "-c", back_up)
    installed.sent(*waiting)
    for line in (stop, restore, start):
        installed.run("bash", "-c", line)
    assert_held(installed, mails=len(waiting))
    assert_nobody_gets_it_twice(installed, waiting, release)


@pytest.fixture
def litestream(installed: Machine) -> Iterator[Machine]:
    """With a directory in place of the sample's bucket."""
    installed.push(LITESTREAM, "/usr/bin/litestream")
    bucket = SAMPLE[SAMPLE.index("      type: s3\n") :]
    ours = SAMPLE.replace(bucket, f"      path: {COPIES}\n")
    installed.write(f"{SOURCES}/deploy/litestream.yml", ours)
    yield installed
    installed.run("systemctl", "disable", "--now", "mailer-litestream")
    installed.run("rm", "/etc/mailer/litestream.yml", UNIT)
    installed.run("bash", "-c", f"rm -r {LOOK}* {COPIES} /var/lib/mailer/.mailer.db-litestream")
    installed.run("systemctl", "daemon-reload")


def test_a_copy_by_litestream_is_put_back_held(litestream: Machine) -> None:
    """As the sample says."""
    lines = re.findall(r"^#   (sudo .*)$", SAMPLE, re.MULTILINE)
    *begin, stop, restore, hold, clean, start, release = lines
    for line in begin:
        litestream.run("bash", "-c", f"cd {SOURCES} && {line}")
    waiting = [f"copied{number}@example.com" for number in range(20)]
    with paused(litestream):
        with Load(litestream, per_second=PER_SECOND) as load:
            load.wait_for_more(2 * PER_SECOND)
        until(lambda: "pending" not in dict(litestream.query(STATES)), within_s=30)
        litestream.post(*waiting)
        until(lambda: copied(litestream, restore) == litestream.query(STATES), within_s=30)
        litestream.run("systemctl", "kill", "--signal=KILL", "mailer-litestream")
        litestream.run("systemctl", "stop", "mailer-litestream")
    litestream.sent(*waiting)
    for line in (stop, restore, hold, clean, start):
        litestream.run("bash", "-c", line)
    assert_held(litestream, mails=len(waiting))
    assert_nobody_gets_it_twice(litestream, [*load.accepted, *waiting], f"{release} --yes")


def copied(machine: Machine, restore: str) -> list[Any]:
    """What the copy knows of the mails."""
    machine.run("bash", "-c", restore.replace("/var/lib/mailer/copy.db", f"{LOOK} -force"))
    return machine.query(STATES, LOOK)


@contextmanager
def paused(machine: Machine) -> Iterator[None]:
    """Mail of `Machine.post` waits."""
    machine.post("first@example.com")
    machine.call("POST", "/v1/topics/machine/pause")
    try:
        yield
    finally:
        machine.call("POST", "/v1/topics/machine/resume")


def assert_held(machine: Machine, *, mails: int) -> None:
    """Started, it sends nothing, new mail neither, and says what it would send."""
    machine.call("POST", "/v1/topics/machine/resume")
    machine.post("new@example.com", topic_id="new")
    before = len(machine.recipients())
    asked = machine.try_run("/usr/local/sbin/mailer", "release")
    assert asked.returncode == 1
    assert f"{mails + 1} mails would go out" in asked.stdout
    assert len(machine.recipients()) == before


def assert_nobody_gets_it_twice(machine: Machine, emails: list[str], release: str) -> None:
    """Let go, it sends what is new, and nothing of what was cancelled meanwhile."""
    machine.call("DELETE", "/v1/topics/machine")
    machine.run("bash", "-c", release)
    machine.sent("new@example.com")
    copies = Counter(machine.recipients())
    assert {copies[email] for email in emails} == {1}

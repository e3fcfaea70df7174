"""Upgrades under load: forward, and back when the new version does not come up."""

from __future__ import annotations

from collections import Counter
from subprocess import CompletedProcess

import pytest

from mailer.store.schema import migrations
from tests.counts import FULL
from tests.system.load import Load
from tests.system.machine import SOURCES, WHEELHOUSE, Machine

pytestmark = pytest.mark.alone  # they share one machine

PER_SECOND = 100
INDEX = ("env", "PIP_NO_INDEX=1", f"PIP_FIND_LINKS={WHEELHOUSE}")

# What the next release might add; the programs before it can work on that.
MIGRATION = f"""
sed -i 's/^OLDEST_PROGRAM: Final = .*/OLDEST_PROGRAM: Final = {len(migrations._migrations)}/' \\
    mailer/store/schema.py
cat >> mailer/store/schema.py <<'EOF'


@migrations()
def m999_later(db: sqlite_utils.Database) -> None:
    db.execute("ALTER TABLE mails ADD COLUMN later TEXT")
    db.execute("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT")
EOF
"""


def release(machine: Machine, version: str, change: str) -> str:
    """A checkout of another version on the machine; where it is."""
    checkout = f"{SOURCES}-{version}"
    script = f"""
    rm -rf {checkout} && cp -r {SOURCES} {checkout} && cd {checkout}
    sed -i 's/^__version__ = .*/__version__ = "{version}"/' mailer/__init__.py
    {MIGRATION}
    {change}
    """
    machine.run("bash", "-euc", script)
    return checkout


def upgraded(
    machine: Machine, checkout: str, version: str, *more: str
) -> tuple[Load, CompletedProcess[str]]:
    """What became of an upgrade and of the calls that came meanwhile; their mail has been sent."""
    with Load(machine, per_second=PER_SECOND) as load:
        load.wait_for_more(PER_SECOND)
        done = machine.try_run(*INDEX, f"{checkout}/deploy/upgrade.sh", version, *more)
        load.wait_for_more(PER_SECOND)
    print(f"\n{done.stdout}{done.stderr}{len(load.accepted)} posts, longest {load.longest_s:.2f} s")
    machine.sent(*load.accepted, within_s=60)
    return load, done


def assert_nobody_noticed(machine: Machine, load: Load) -> None:
    assert load.failures == []
    copies = Counter(machine.recipients())
    assert {email: copies[email] for email in load.accepted if copies[email] != 1} == {}


def runs(machine: Machine) -> str:
    """The version that answers."""
    version: str = machine.call("GET", "/openapi.json")[1]["info"]["version"]
    return version


BROKEN = {
    "its API can't start": "echo 'raise RuntimeError(\"broken\")' >> mailer/api/app.py",
    "its supervisor can't start": "echo 'raise RuntimeError(\"broken\")' >> mailer/supervisor.py",
}


@pytest.mark.parametrize("broken", list(BROKEN)[0 if FULL else 1 :])
def test_a_version_that_does_not_come_up_is_taken_back(installed: Machine, broken: str) -> None:
    before = runs(installed)
    checkout = release(installed, "0.1.1", BROKEN[broken])
    load, done = upgraded(installed, checkout, "0.1.1")
    assert done.returncode == 1
    assert "RuntimeError" in done.stdout
    assert_nobody_noticed(installed, load)
    assert runs(installed) == before
    columns = installed.query("SELECT name FROM pragma_table_info('mails')")
    assert ["later"] in columns, "the old version works on the new schema"


def test_upgrade(installed: Machine) -> None:
    """From a wheelhouse, as on a host without a package index."""
    checkout = release(installed, "0.2.0", "")
    wheels = "/usr/local/src/wheels-0.2.0"
    installed.run("cp", "-r", WHEELHOUSE, wheels)  # what does not change is not fetched again
    installed.run(*INDEX, f"{checkout}/deploy/wheelhouse.sh", wheels)
    load, done = upgraded(installed, checkout, "0.2.0", "--offline", wheels)
    assert done.returncode == 0, done.stderr
    assert_nobody_noticed(installed, load)
    assert runs(installed) == "0.2.0"
    assert installed.run("ls", "/var/lib/mailer/backups").endswith(".db")


def test_another_version_than_asked_for_is_not_taken(installed: Machine) -> None:
    done = installed.try_run(f"{SOURCES}/deploy/upgrade.sh", "9.9.9")
    assert done.returncode == 1
    assert f"{SOURCES} has mailer 0.1.0, not 9.9.9" in done.stderr

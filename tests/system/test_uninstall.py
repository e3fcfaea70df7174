"""Removed, it leaves its mail behind; installed again it goes on with it; purged, all is gone."""

from __future__ import annotations

import pytest

from tests.system.conftest import install
from tests.system.machine import SOURCES, Machine

pytestmark = pytest.mark.alone  # they share one machine


def test_what_is_removed_and_what_stays(installed: Machine) -> None:
    installed.settings(MAX_SEND_PER_SECOND="0.001")
    installed.post("kept@example.com", "kept-too@example.com")
    said = installed.run(f"{SOURCES}/deploy/install.sh", "--uninstall")
    assert "kept: /etc/mailer, /var/lib/mailer" in said
    assert traces(installed) == [
        "/etc/mailer/mailer.env",
        "/etc/sysusers.d/mailer.conf",
        "/var/lib/mailer/mailer.db",
    ]
    assert installed.try_run("curl", "-s", "http://127.0.0.1:3000/health").returncode == 7

    install(installed)
    installed.settings(MAX_SEND_PER_SECOND="unlimited")
    installed.sent("kept@example.com", "kept-too@example.com")

    installed.run(f"{SOURCES}/deploy/install.sh", "--uninstall", "--purge")
    assert traces(installed) == []
    assert installed.try_run("id", "mailer").returncode != 0
    installed.run(f"{SOURCES}/deploy/install.sh", "--uninstall", "--purge")


def traces(machine: Machine) -> list[str]:
    """What is mailer's outside of its sources: directories only when nothing is in them."""
    places = (
        "/etc",
        "/opt",
        "/var/lib/mailer",
        "/usr/local/bin",
        "/usr/local/sbin",
        "/run/systemd",
    )
    done = machine.try_run(
        *("find", *places, "-ignore_readdir_race", "-path", "*mailer*", "-not", "-type", "d"),
        *("-not", "-path", "*/maildir/*", "-not", "-path", "*/mailer.db-*"),
        *("-not", "-path", "*/backups/*"),
    )
    return sorted(done.stdout.split())

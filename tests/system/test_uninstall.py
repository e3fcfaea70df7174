"""Removed, it leaves its mail behind; installed again it goes on with it; purged, all is gone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.counts import FULL
from tests.system.machine import SOURCES, WHEELHOUSE, Machine, readme_lines

pytestmark = pytest.mark.alone  # they share one machine

UV, PIPX, *UNITS = readme_lines("### By uv or pipx")
OFFLINE = (
    *("UV_OFFLINE=1", "UV_NO_INDEX=1", f"UV_FIND_LINKS={WHEELHOUSE}"),
    *("PIP_NO_INDEX=1", f"PIP_FIND_LINKS={WHEELHOUSE}"),
)
KEPT = [
    "/etc/mailer/mailer.env",
    "/etc/sysusers.d/mailer.conf",
    "/var/lib/mailer/mailer.db",
]


def test_what_is_removed_and_what_stays(installed: Machine) -> None:
    installed.settings(MAX_SEND_PER_SECOND="0.001")
    installed.post("kept@example.com", "kept-too@example.com")
    said = installed.run(f"{SOURCES}/deploy/install.sh", "--uninstall")
    assert "kept: /etc/mailer, /var/lib/mailer" in said
    assert traces(installed) == KEPT
    assert installed.try_run("curl", "-s", "http://127.0.0.1:3000/health").returncode == 7


@pytest.mark.parametrize("line", [UV, PIPX] if FULL else [UV], ids=lambda line: line.split()[3])
def test_installed_by_another_tool_it_goes_on_with_the_mail(machine: Machine, line: str) -> None:
    sudo, directory, binaries, tool, *_ = line.split()
    by_tool = f"{tool}@example.com"
    machine.push(Path(sys.executable).with_name("uv"), "/usr/local/bin/uv")
    do(machine, line, *UNITS)
    machine.token = machine.mailer("token", "--subject", "tests")
    machine.settings(MAX_SEND_PER_SECOND="unlimited")
    machine.post(by_tool)
    machine.sent(by_tool, *(["kept@example.com", "kept-too@example.com"] if line == UV else []))

    machine.mailer("systemd", "uninstall", "--purge")
    assert gone(machine, "/etc", "/var/lib/mailer", "/run/systemd")
    do(machine, "sudo mailer systemd install", "sudo mailer systemd uninstall")
    uninstall = "tool uninstall" if tool == "uv" else "uninstall"
    do(machine, f"{sudo} {directory} {binaries} {tool} {uninstall} mailer")
    assert "/etc/mailer/mailer.env" in traces(machine)


def test_what_was_kept_goes_when_it_is_purged(machine: Machine) -> None:
    """Also when the program has gone already."""
    for _ in range(2):
        machine.run(f"{SOURCES}/deploy/install.sh", "--uninstall", "--purge")
        assert gone(machine)


def do(machine: Machine, *lines: str) -> None:
    """As written for an operator, with wheels in place of a package index."""
    script = "\n".join([f"cd {SOURCES}", *lines])
    machine.run("env", *OFFLINE, "bash", "-euo", "pipefail", "-c", script)


def gone(machine: Machine, *places: str) -> bool:
    """Whether no file of mailer's is left, nor the user."""
    return not traces(machine, *places) and machine.try_run("id", "mailer").returncode != 0


PLACES = ("/etc", "/opt", "/var/lib/mailer", "/usr/local/bin", "/usr/local/sbin", "/run/systemd")


def traces(machine: Machine, *places: str) -> list[str]:
    """What is mailer's outside of its sources: directories only when nothing is in them."""
    done = machine.try_run(
        *("find", *(places or PLACES), "-ignore_readdir_race", "-path", "*mailer*"),
        *("-not", "-type", "d", "-not", "-path", "*/maildir/*", "-not", "-path", "*/mailer.db?*"),
        *("-not", "-path", "*/backups/*"),
    )
    return sorted(done.stdout.split())

"""Root runs what it says it means to, and leaves nothing beside a database of somebody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installation import Installation
from tests.waiting import until

OTHER_USER = 12345


def as_root(
    installation: Installation, *command: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run by root, if need be one in a name space of its own."""
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, *command],
        cwd=installation.directory,
        env={**installation.environ, "ALLOW_ROOT": "0", **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["run", "serve", "supervise"])
def test_what_stays_refuses_root_with_the_reason(installation: Installation, command: str) -> None:
    done = as_root(installation, "-m", "mailer", command)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: mailer does not run as root: ")
    assert "--allow-root" in done.stderr
    assert not (installation.directory / "mailer.db").exists()


def test_root_may_mean_it(installation: Installation) -> None:
    """Said once, it holds for all that this starts."""
    installation.environ["ALLOW_ROOT"] = "0"
    process = installation.start("run", "--allow-root")
    until(lambda: installation.ready(process), within_s=30)
    until(lambda: installation.json("status")["senders"])


def test_the_asgi_entry_refuses_root_too(installation: Installation) -> None:
    refused = as_root(installation, "-c", "import mailer.asgi")
    assert (refused.returncode, "mailer does not run as root" in refused.stderr) == (1, True)
    allowed = as_root(installation, "-c", "import mailer.asgi", ALLOW_ROOT="1")
    assert (allowed.returncode, allowed.stderr) == (0, "")


@pytest.mark.parametrize("command", ["migrate", "status", "restore", "run"])
def test_root_leaves_another_s_database_alone(installation: Installation, command: str) -> None:
    assert os.geteuid() == 0, "this test gives files away: run it as root"
    assert installation.mailer("migrate").returncode == 0
    assert installation.mailer("backup", "copy.db").returncode == 0
    os.chown(installation.directory / "mailer.db", OTHER_USER, OTHER_USER)
    for beside in installation.directory.glob("mailer.db-*"):
        beside.unlink()
    done = installation.mailer(command, *(["copy.db"] if command == "restore" else []))
    assert done.returncode == 1
    assert f"mailer.db belongs to #{OTHER_USER}" in done.stderr
    assert f"runuser -u #{OTHER_USER} -- mailer" in done.stderr
    assert names(installation.directory) == ["copy.db", "mailer.db"]


def test_root_makes_none_in_another_s_directory(installation: Installation) -> None:
    assert os.geteuid() == 0, "this test gives a directory away: run it as root"
    os.chown(installation.directory, OTHER_USER, OTHER_USER)
    done = installation.mailer("migrate")
    assert (done.returncode, "belongs to" in done.stderr) == (1, True)
    assert names(installation.directory) == []


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())

"""The machine that tests share, and mailer installed on it as the README says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.system.machine import (
    DIRECTORY,
    SOURCES,
    WHEELHOUSE,
    Machine,
    copy_sources,
    readme_lines,
)


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Booted from a pristine Debian, with a checkout and, in place of an index, all wheels."""
    sources = copy_sources(tmp_path_factory.mktemp("sources"))
    wheelhouse = DIRECTORY.with_name(DIRECTORY.name + "-wheelhouse")
    subprocess.run([sources / "deploy" / "wheelhouse.sh", wheelhouse], check=True)
    made = Machine()
    made.push(sources, SOURCES)
    made.push(wheelhouse, WHEELHOUSE)
    made.write("/usr/local/bin/sudo", '#!/bin/sh\nexec env "$@"\n')
    made.run("chmod", "755", "/usr/local/bin/sudo")
    yield made
    made.down()


@pytest.fixture(scope="module")
def installed(machine: Machine) -> Machine:
    """Installed there, sending as fast as it can into a Maildir, with a token at hand."""
    if not machine.path("/opt/mailer/current").is_symlink():
        install(machine)
    machine.token = machine.mailer("token", "--subject", "tests")
    machine.settings(MAX_SEND_PER_SECOND="unlimited")
    return machine


def install(machine: Machine) -> str:
    """Run the README's lines; what they print."""
    script = "\n".join([f"cd {SOURCES}", *readme_lines("## On a server")])
    return machine.run(
        *("env", "PIP_NO_INDEX=1", f"PIP_FIND_LINKS={WHEELHOUSE}"),
        *("bash", "-euo", "pipefail", "-c", script),
    )

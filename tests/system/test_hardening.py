"""What the services are kept from, tried in units that differ from theirs in the program alone."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.system.machine import Machine

pytestmark = pytest.mark.alone  # they share one machine

PROBE = Path(__file__).parent / "probe.py"
SERVICES = (
    "mailer-api",
    "mailer-supervisor",
    "mailer-migrate",
    "mailer-backup",
    "mailer-failure@x",
)
STATE = "/var/lib/mailer"
PRIVATE = {"/tmp", "/var/tmp"}
METADATA = "169.254.169.254"


@pytest.mark.parametrize("service", SERVICES)
def test_the_exposure_is_low(installed: Machine, service: str) -> None:
    shown = installed.run("systemd-analyze", "security", "--no-pager", f"{service}.service")
    found = re.search(r"exposure level for \S+: ([0-9.]+)", shown)
    assert found is not None
    assert float(found[1]) <= 1.5


@pytest.mark.parametrize(
    ("service", "allowed"),
    [("mailer-api", set()), ("mailer-supervisor", {"metadata"}), ("mailer-migrate", set())],
)
def test_what_is_no_business_of_a_service_is_refused(
    installed: Machine, service: str, allowed: set[str]
) -> None:
    """The supervisor may reach the metadata service: an instance's role gives its keys there."""
    with metadata_service(installed):
        found = probed(installed, like(installed, service))
    assert set(found["works"]) == allowed
    assert set(found["writable"]) == {STATE, *PRIVATE}


def test_a_service_without_these_limits_may_do_it_all(installed: Machine) -> None:
    """The control."""
    with metadata_service(installed):
        found = probed(installed, "[Service]\nWorkingDirectory=/var/lib/mailer\n")
    assert set(found["works"]) == {
        *("shell", "shell_by_the_loader", "shell_of_its_own", "shell_in_memory", "trace"),
        *("raw_socket", "packet_socket", "namespace", "code_that_was_written", "metadata"),
    }
    assert {"/etc", "/opt"} < set(found["writable"]) or "/" in found["writable"]


def like(machine: Machine, service: str) -> str:
    """A service's unit without what starts it and what it needs."""
    unit = machine.path(f"/etc/systemd/system/{service}.service").read_text()
    own = ("Type=", "Exec", "Restart", "Watchdog", "Requires=", "Wants=", "OnFailure=", "PartOf=")
    lines = [
        line
        for line in unit.splitlines()
        if not line.startswith(own) or line.startswith("ExecPaths=")
    ]
    return "\n".join(lines) + "\n"


def probed(machine: Machine, unit: str) -> Any:
    """What works in such a unit."""
    machine.push(PROBE, "/usr/local/lib/probe.py")
    program = "/opt/mailer/current/bin/python /usr/local/lib/probe.py"
    ours = f"Type=oneshot\nExecStart={program}\nStandardOutput=truncate:/run/probed\n"
    name = "mailer-probe" if "NoExecPaths" in unit else "probe"
    unit = unit.replace("[Service]\n", f"[Service]\n{ours}")
    machine.write(f"/run/systemd/system/{name}.service", unit)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", name)
    return json.loads(machine.path("/run/probed").read_text())


@contextmanager
def metadata_service(machine: Machine) -> Iterator[None]:
    """Somebody answers where EC2 gives an instance its role's keys."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    machine.try_run("ip", "address", "add", f"{METADATA}/32", "dev", "lo")
    server = ThreadingHTTPServer((METADATA, 80), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = machine.listen((METADATA, 80))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""From an empty Debian to mail that is sent: the README's lines, twice, and a reboot."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta

import pytest

from mailer import plugins
from tests.system.conftest import install
from tests.system.machine import Machine
from tests.waiting import until

pytestmark = pytest.mark.alone  # they share one machine


def test_the_readme_s_lines_make_a_service_that_sends(installed: Machine) -> None:
    installed.post("ann@example.com", "bob@example.com")
    installed.sent("ann@example.com", "bob@example.com")
    until(lambda: installed.call("GET", "/v1/topics/machine")[1]["success"] >= 2)
    status = json.loads(installed.mailer("status", "--json"))
    assert all(sender["alive"] for sender in status["senders"])


def test_what_it_keeps_is_its_own(installed: Machine) -> None:
    def owner_and_mode(path: str) -> str:
        return installed.run("stat", "-c", "%U:%G %a", path)

    assert owner_and_mode("/etc/mailer/mailer.env") == "root:mailer 640"
    assert owner_and_mode("/var/lib/mailer") == "mailer:mailer 700"
    assert owner_and_mode("/var/lib/mailer/mailer.db") == "mailer:mailer 600"
    for unit in ("mailer-api", "mailer-supervisor"):
        pid = installed.property(unit, "MainPID")
        assert installed.run("stat", "-c", "%U", f"/proc/{pid}") == "mailer"
    assert not stat.S_IMODE(installed.path("/opt/mailer/current/").stat().st_mode) & 0o022


def test_doing_it_again_changes_nothing(installed: Machine) -> None:
    def state() -> list[str]:
        return [
            installed.path("/etc/mailer/mailer.env").read_text(),
            installed.run("readlink", "/opt/mailer/current"),
            installed.property("mailer-api", "MainPID"),
            installed.property("mailer-supervisor", "MainPID"),
        ]

    before = state()
    install(installed)
    assert state() == before


def test_every_secret_may_come_from_a_credential(installed: Machine) -> None:
    drop_in = installed.path("/etc/systemd/system/mailer-.service.d/10-limits.conf").read_text()
    listed = plugins.settings(plugins.load(), {}).listed()
    secrets = [name for variable, _ in listed if variable.secret for name in variable.names]
    assert [f"LoadCredential={name}:mailer.{name}" in drop_in for name in secrets] == [True] * len(
        secrets
    )
    installed.write("/etc/credstore/mailer.API_KEY", "k" * 40)
    installed.run("systemctl", "restart", "mailer-api")
    shown = {row["name"]: row for row in json.loads(installed.mailer("config", "--json"))}
    assert shown["API_KEY"]["origin"] == "API_KEY in credentials"
    assert "k" * 40 not in json.dumps(shown)
    answer = installed.run(
        *("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"X-API-KEY: {'k' * 40}"),
        "http://127.0.0.1:3000/v1/topics",
    )
    assert answer == "200"
    installed.run("rm", "/etc/credstore/mailer.API_KEY")
    installed.run("systemctl", "restart", "mailer-api")


def test_it_comes_back_after_a_reboot_with_what_is_due(installed: Machine) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    message = {"emails": ["later@example.com"], "subject": "Later", "text": "Later"}
    body = {"messages": [message], "scheduled_at": soon}
    assert installed.call("POST", "/v1/messages", body)[0] == 200
    installed.reboot()
    installed.sent("later@example.com")
    until(lambda: installed.property("mailer-supervisor", "ActiveState") == "active")
    assert installed.call("GET", "/ready")[0] == 200


def test_a_crash_loop_is_told_once_and_never_given_up(installed: Machine) -> None:
    before = installed.path("/etc/mailer/mailer.env").read_text()
    installed.write("/usr/local/bin/page-me", "#!/bin/sh\necho paged for $1\n")
    installed.run("chmod", "755", "/usr/local/bin/page-me")
    env = installed.path("/etc/mailer/mailer.env")
    env.write_text(before + "SENDERS=many\nFAILURE_COMMAND=/usr/local/bin/page-me\n")
    installed.try_run("systemctl", "restart", "--no-block", "mailer-supervisor")
    until(lambda: int(installed.property("mailer-supervisor", "NRestarts")) >= 3, within_s=30)
    told = installed.journal("-b", "-u", "mailer-failure@mailer-supervisor.service.service")
    assert told.count("mailer-supervisor.service has failed and is tried again") == 1
    assert told.count("paged for mailer-supervisor.service") == 1
    env.write_text(before)
    until(lambda: installed.property("mailer-supervisor", "SubState") == "running", within_s=20)

"""The command line as scripts use it: exit statuses, stdout for answers, stderr for the rest."""

from __future__ import annotations

import json
import os
import pty
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest

from mailer.store.library import has_wal_reset_bug
from tests.installation import Installation
from tests.waiting import until

SECRET = "a secret of thirty-two bytes, or more"


def post(installation: Installation, **message: Any) -> Any:
    """One message accepted; the API's answer."""
    body = {"subject": "Hello", "text": "Hello", "emails": ["ann@example.com"], **message}
    status, answer = installation.call("POST", "/v1/messages", {"messages": [body]})
    assert status == 200, answer
    return answer


def test_help_needs_no_settings(installation: Installation) -> None:
    done = installation.mailer("--help", SENDERS="none")
    assert done.returncode == 0
    assert "supervise" in done.stdout
    assert "sender" not in done.stdout.split()


def test_faults_in_settings_are_all_named_at_once(installation: Installation) -> None:
    done = installation.mailer("config", SENDERS="none", SERVER_PORT="0", JWT_SECRET="hunter2")
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.removeprefix("Error: ").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["SERVER_PORT", "SENDERS", "JWT_SECRET"]
    assert all("Accepted: " in line for line in lines)
    assert "hunter2" not in done.stderr


def test_wrong_usage_is_status_2(installation: Installation) -> None:
    assert installation.mailer("show").returncode == 2
    assert installation.mailer("no-such-command").returncode == 2


@pytest.mark.parametrize(
    "command", [("status",), ("show", "abc-0"), ("serve",), ("supervise",)], ids=" ".join
)
def test_without_a_database(installation: Installation, command: tuple[str, ...]) -> None:
    done = installation.mailer(*command)
    assert done.returncode == 1
    assert "mailer.db" in done.stderr
    assert "mailer migrate" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (installation.directory / "mailer.db").exists()


def test_migrate(installation: Installation) -> None:
    first = installation.json("migrate")
    assert first["database"] == str(installation.directory / "mailer.db")
    assert first["applied"]
    assert installation.json("migrate")["applied"] == []
    assert "up to date" in installation.mailer("migrate").stdout


def test_config_tells_origins_and_masks_secrets(installation: Installation) -> None:
    (installation.directory / ".env").write_text(
        "SENDERS=3\nSMTP_URL=smtp://me:hunter2@localhost\n"
    )
    rows = {row["name"]: row for row in installation.json("config")}
    assert (rows["SENDERS"]["value"], rows["SENDERS"]["origin"]) == ("3", "SENDERS in .env")
    assert rows["SERVER_PORT"]["origin"] == "SERVER_PORT in environment"
    assert (rows["API_WORKERS"]["value"], rows["API_WORKERS"]["origin"]) == ("2", "default")
    assert rows["SMTP_URL"]["value"] == "********"
    shown = installation.mailer("config")
    assert "SENDERS in .env" in shown.stdout
    assert "hunter2" not in shown.stdout


def test_token(installation: Installation) -> None:
    options = ("--subject", "shop", "--scope", "send", "--scope", "read", "--lifetime", "2h")
    done = installation.mailer("token", *options, JWT_SECRET=SECRET)
    assert done.returncode == 0
    claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["scope"]) == ("shop", "send read")
    assert claims["exp"] - claims["iat"] == 7200

    everything = installation.mailer("token", "--subject", "me", JWT_SECRET=SECRET).stdout.strip()
    assert "scope" not in jwt.decode(everything, SECRET, algorithms=["HS256"])


def test_token_without_a_secret_or_lifetime(installation: Installation) -> None:
    done = installation.mailer("token", "--subject", "shop")
    assert (done.returncode, done.stdout) == (1, "")
    assert "JWT_SECRET" in done.stderr
    wrong = installation.mailer("token", "--subject", "x", "--lifetime", "30", JWT_SECRET=SECRET)
    assert wrong.returncode == 2


def test_run_with_three_settings_migrates_serves_sends_and_ends(installation: Installation) -> None:
    process = installation.run()
    post(installation)
    until(installation.mails)
    process.terminate()
    assert process.wait(timeout=10) == 0
    log = installation.log
    assert 'transport=maildir transport_because="the default' in log
    assert f'destination="{installation.maildir}: nothing leaves this machine"' in log
    assert f'api={installation.url} api_for="open to this machine only' in log
    assert "Traceback" not in log


def test_run_ends_whole_when_it_is_killed(installation: Installation) -> None:
    process = installation.run()
    pids = {row["pid"] for row in installation.json("status")["senders"]}
    assert len(pids) == 2
    process.kill()
    process.wait()

    def everything_ended() -> bool:
        refused = subprocess.run(["curl", "-s", installation.url], check=False).returncode == 7
        return refused and not any(Path(f"/proc/{pid}").exists() for pid in pids)

    until(everything_ended, within_s=15)


def test_a_second_supervisor_names_the_first(installation: Installation) -> None:
    installation.run()
    done = installation.mailer("supervise")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert "mailer.db" in line


def test_run_says_that_its_port_is_taken(installation: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = installation.mailer("run", SERVER_PORT=str(port))
    assert done.returncode == 1
    assert f"127.0.0.1 port {port} can't be listened on: Address already in use" in done.stderr


def test_a_transport_that_is_not_there_stops_the_start(installation: Installation) -> None:
    installation.mailer("migrate")
    for command in ("serve", "supervise", "run"):
        done = installation.mailer(command, TRANSPORT="pigeon")
        assert done.returncode == 1
        assert "pigeon is not configured or not installed" in done.stderr


def test_a_named_transport_is_told_with_its_origin(installation: Installation) -> None:
    installation.environ |= {"TRANSPORT": "smtp", "SMTP_URL": "smtp://127.0.0.1:9?starttls=off"}
    installation.run()
    told = 'transport=smtp transport_because="chosen by TRANSPORT in environment"'
    assert told in installation.log
    assert "nothing leaves this machine" not in installation.log


def test_an_unfixed_sqlite_library_is_named(installation: Installation) -> None:
    """Without pysqlite3 the system's library is used, whatever its version."""
    hidden = installation.directory / "hidden" / "pysqlite3"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError")
    paths = [str(hidden.parent), installation.environ.get("PYTHONPATH", "")]
    installation.environ["PYTHONPATH"] = ":".join(filter(None, paths))
    unfixed = has_wal_reset_bug(sqlite3.sqlite_version_info)
    installation.run()
    assert (f"SQLite {sqlite3.sqlite_version} can lose commits" in installation.log) is unfixed
    assert installation.json("status")["sqlite"] == {
        "version": sqlite3.sqlite_version,
        "wal_reset_bug": unfixed,
    }


def test_status(installation: Installation) -> None:
    installation.run()
    post(installation, topic_id="news/[red]1")
    until(installation.mails)
    seen = until(lambda: settled(installation))
    assert seen["queue"]["waiting"] == 0
    limits = [way["limit_per_second"] for way in seen["transports"] if way["chosen"]]
    assert (seen["rate"]["max_per_second"], limits) == (12, [12])
    assert [sender["alive"] for sender in seen["senders"]] == [True, True]
    (topic,) = seen["topics"]
    assert (topic["topic_id"], topic["total"], topic["success"]) == ("news/[red]1", 1, 1)
    assert topic["states"]["sent"] == 1

    shown = installation.mailer("status")
    assert shown.returncode == 0
    assert "\x1b" not in shown.stdout
    assert "news/[red]1" in shown.stdout


def settled(installation: Installation) -> Any:
    seen = installation.json("status")
    return seen if seen["queue"]["waiting"] == 0 else None


def test_status_without_senders_says_so(installation: Installation) -> None:
    installation.mailer("migrate")
    assert "none: run `mailer supervise`" in installation.mailer("status").stdout


def test_status_watch_prints_a_line_of_json_each_second(installation: Installation) -> None:
    installation.mailer("migrate")
    process = installation.start("status", "--watch", "--json")
    lines = until(lambda: installation.log.splitlines()[:2][1:] and installation.log.splitlines())
    assert [json.loads(line)["queue"]["waiting"] for line in lines[:2]] == [0, 0]
    process.send_signal(2)
    assert process.wait(timeout=10) == 0


def test_colour_is_for_terminals(installation: Installation) -> None:
    installation.mailer("migrate")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mailer", "status", "--watch"],
        cwd=installation.directory,
        env={**installation.environ, "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
    )
    os.close(theirs)
    seen = b""

    def drawn_twice() -> bool:
        nonlocal seen
        seen += os.read(ours, 65536)
        return seen.count(b"queue") >= 2

    until(drawn_twice)
    process.send_signal(2)
    assert process.wait(timeout=10) == 0
    os.close(ours)
    assert b"\x1b[" in seen


def test_show_tells_why_a_mail_waits(installation: Installation) -> None:
    installation.run()
    topic = "held"
    post(installation, topic_id=topic)
    until(installation.mails)
    assert installation.call("POST", f"/v1/topics/{topic}/pause")[0] == 200
    answer = post(installation, topic_id=topic)
    (request_id,) = answer["messages"][0]["request_ids"]
    told = installation.json("show", request_id)
    assert (told["state"], told["waits_for"]) == ("pending", "topic")
    assert "its topic is paused" in told["why_it_waits"]
    assert (told["attempts"], told["recipient"]) == ([], "ann@example.com")

    installation.call("POST", f"/v1/topics/{topic}/resume")
    sent = until(lambda: state(installation, request_id) == "sent") and installation.json(
        "show", request_id
    )
    (attempt,) = sent["attempts"]
    assert (attempt["outcome"], attempt["transport"]) == ("accepted", "maildir")
    assert "sent" in [event["type"] for event in sent["events"]]
    shown = installation.mailer("show", request_id).stdout
    assert "ann@example.com" in shown
    assert "accepted" in shown


def state(installation: Installation, request_id: str) -> Any:
    return installation.json("show", request_id)["state"]


def test_show_does_not_know_a_mail(installation: Installation) -> None:
    installation.mailer("migrate")
    for unknown in ("abc-0", "../../etc/passwd", "0"):
        done = installation.mailer("show", unknown)
        assert (done.returncode, done.stdout) == (1, "")
        assert "there is no mail" in done.stderr

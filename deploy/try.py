"""What deploy/try.sh does once mailer is installed: run it, send, watch, tell.

Uses only what a caller has: the `mailer run` command and the API.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mailer import plugins
from mailer.commands.client import Api, explain
from mailer.errors import ApiError

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "try"
RECIPIENTS = 1_000
RATE = 200
SCHEDULED_IN_S = 10
READY_WITHIN_S = 30
SENT_WITHIN_S = 90


def main() -> int:
    """The exit status: 0 when every mail was sent."""
    parser = argparse.ArgumentParser(prog="deploy/try.sh", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end when all is sent")
    once = parser.parse_args().once
    PLACE.mkdir(mode=0o700, exist_ok=True)
    named = os.environ.get("SERVER_PORT")
    port = free_port([int(named)] if named else [3000, 0])
    api = Api(f"http://127.0.0.1:{port}")
    topic_id = f"try-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with running(port) as mailer:
        wait_until_ready(api, mailer)
        post(api, topic_id)
        watch(api, topic_id)
        topic = call(api, "GET", f"/v1/topics/{topic_id}")
        tell(api, topic_id, topic)
        if not once:
            print("\nUp until Ctrl-C.", flush=True)
            with suppress(KeyboardInterrupt):
                mailer.wait()
                raise ApiError("mailer has ended by itself; it says why above")
    return 0 if topic["success"] == topic["total"] == RECIPIENTS else 1


def free_port(candidates: list[int]) -> int:
    """The first on which nobody listens; 0 stands for any. Raises OSError when all are taken."""
    for port in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise OSError(f"port {candidates[0]} is taken; let SERVER_PORT name another")


@contextmanager
def running(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`mailer run` in the directory try/, which ends when this process does, however it ends."""
    ours = {
        "DATABASE_URL": f"sqlite://{PLACE}/mailer.db",
        "SERVER_PORT": str(port),
        "TRANSPORT": "maildir",
        "MAILDIR_PATH": str(PLACE / "maildir"),
        "MAX_SEND_PER_SECOND": str(RATE),
        "LOG_LEVEL": "WARNING",
    }
    # The caller's own settings are for the caller's own mail.
    known = plugins.settings(plugins.load(), {}).listed()
    names = {name for variable, _ in known for name in variable.names}
    environ = {name: value for name, value in os.environ.items() if name not in names} | ours
    command = [sys.executable, "-m", "mailer", "run"]
    if os.geteuid() == 0:
        print("You are root, which mailer refuses to run as; to try it --allow-root is given.")
        command.append("--allow-root")
    # Its own group, so that Ctrl-C reaches it once, from here.
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "--", *command],
        env=environ,
        cwd=PLACE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def wait_until_ready(api: Api, mailer: subprocess.Popen[bytes]) -> None:
    """Raises ApiError when it ends, or takes too long."""
    deadline = time.monotonic() + READY_WITHIN_S
    while mailer.poll() is None and time.monotonic() < deadline:
        try:
            if api.call("GET", "/ready").status == 200:
                return
        except (OSError, HTTPException):
            time.sleep(0.1)
    raise ApiError("mailer did not start; it says why above")


def post(api: Api, topic_id: str) -> None:
    """All recipients but one now, the last one in ten seconds."""
    html = (ROOT / "tests/samples/newsletter.html").read_text()
    message = {"topic_id": topic_id, "subject": "The newsletter", "content": html}
    emails = [f"reader{n:04}@example.com" for n in range(RECIPIENTS)]
    later = datetime.now(UTC) + timedelta(seconds=SCHEDULED_IN_S)
    call(api, "POST", "/v1/messages", {"messages": [{**message, "emails": emails[1:]}]})
    scheduled = {"messages": [{**message, "emails": emails[:1]}], "scheduled_at": later.isoformat()}
    call(api, "POST", "/v1/messages", scheduled)
    print(f"{RECIPIENTS} mails accepted, one of them for {later.astimezone():%H:%M:%S}", flush=True)


def watch(api: Api, topic_id: str) -> None:
    """Draw a bar until nothing of the topic waits."""
    columns = (TextColumn("sent"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    deadline = time.monotonic() + SENT_WITHIN_S
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("sent", total=RECIPIENTS)
        while time.monotonic() < deadline:
            topic = call(api, "GET", f"/v1/topics/{topic_id}")
            progress.update(bar, completed=topic["success"])
            if topic["success"] + topic["failure"] >= topic["total"]:
                return
            time.sleep(0.2)


def tell(api: Api, topic_id: str, topic: dict[str, Any]) -> None:
    """The results, where the mails lie, and how to send one more."""
    one_more = {
        "messages": [
            {"emails": ["you@example.com"], "subject": "One more", "content": "<p>Hello</p>"}
        ]
    }
    print(f"\n{topic_id}: {json.dumps(topic, indent=2)}")
    print(f"\nThe mails lie in {PLACE / 'maildir' / 'new'}. To send one more:\n")
    print(f"curl {api.base_url}/v1/messages --json '{json.dumps(one_more)}'", flush=True)


def call(api: Api, method: str, path: str, body: object = None) -> Any:
    """A call that must succeed. Raises ApiError."""
    data = None if body is None else json.dumps(body).encode()
    answer = api.call(method, path, data, {"content-type": "application/json"} if data else None)
    if answer.status != 200:
        raise ApiError(f"{method} {path} was answered {answer.status}: {explain(answer)}")
    return answer.json()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Stopped before all was sent")
    except (ApiError, OSError, HTTPException) as error:
        sys.exit(f"Error: {error}")

"""mailer as someone has installed it: a directory with a database, settings, and the command."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from mailer.testing.waiting import until

WHOEVER_TESTS: Final = {"ALLOW_ROOT": "1"}
"""Tests may be run by root, in a container say."""


class Installation:
    """Runs `mailer` in a directory of its own, with no settings but those given."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.maildir = directory / "maildir"
        self.environ = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
            "DATABASE_URL": f"sqlite://{directory}/mailer.db",
            "SERVER_PORT": str(self.port),
            "MAILDIR_PATH": str(self.maildir),
            **WHOEVER_TESTS,
            **settings,
        }
        self._running: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mailer(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """The command, run to its end."""
        return subprocess.run(
            [sys.executable, "-m", "mailer", *arguments],
            cwd=self.directory,
            env={**self.environ, **settings},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        done = self.mailer(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command that stays; its output goes to `log`."""
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mailer", *arguments],
                cwd=self.directory,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._running.append(process)
        return process

    def run(self) -> subprocess.Popen[bytes]:
        """`mailer run`, until it answers."""
        process = self.start("run")
        until(lambda: self.ready(process), within_s=30)
        return process

    def ready(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, self.log
        with suppress(OSError, http.client.HTTPException):
            return self.call("GET", "/ready")[0] == 200
        return False

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(
                method,
                path,
                json.dumps(body) if body is not None else None,
                {"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    @property
    def log_path(self) -> Path:
        return self.directory / "log"

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def mails(self) -> list[Path]:
        return sorted((self.maildir / "new").glob("*"))

    def stop(self) -> list[int]:
        """End what runs by SIGTERM; the exit statuses."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        return [process.wait(timeout=20) for process in self._running]


def free_port() -> int:
    """A port that for a minute nobody is given who does not ask for it by its number.

    A connection that its server has closed leaves the server's port in TIME_WAIT (RFC 9293).
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        address: tuple[str, int] = server.getsockname()
        with socket.create_connection(address):
            server.accept()[0].close()
    return address[1]

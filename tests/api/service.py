"""A served API: a real process on a port of its own, over a database of its own."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailer.store import Store
from mailer.store.migrate import migrate
from mailer.store.outcomes import Rules
from mailer.vocabulary import UncertainPolicy
from tests.installation import WHOEVER_TESTS, free_port
from tests.waiting import until
from tests.weakened import Protection, mailer_command

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def faults(self) -> list[tuple[str, str]]:
        """(path, code) of each fault a problem names."""
        return [(fault["path"], fault["code"]) for fault in self.json.get("errors", [])]


class Service:
    """`mailer serve` with these settings."""

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        *,
        bind: str = "127.0.0.1",
        python_path: Sequence[Path] = (),
        disk_bytes: int | None = None,
        without: Protection | None = None,
    ) -> None:
        """With `disk_bytes` the directory is a disk of its own, of that size."""
        self.host = "127.0.0.1"
        self.directory = directory
        self.database = directory / "mailer.db"
        self.log_path = directory / "api.log"
        self.port = free_port()
        self._disk_bytes = disk_bytes
        self._serve = mailer_command("serve", without=without)
        if disk_bytes is None and not self.database.exists():
            migrate(self.database)
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([*map(str, python_path), *sys.path]),
            "DATABASE_URL": f"sqlite://{self.database}",
            "BIND": f"{bind}:{self.port}",
            "MAILDIR_PATH": str(directory / "maildir"),
            "API_WORKERS": "1",
            **WHOEVER_TESTS,
            **(settings or {}),
        }
        self._start()

    def restart(self) -> None:
        """Start again what was stopped."""
        self._start()

    def _start(self) -> None:
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                self._command(),
                env=self.environ,
                cwd=self.directory,
                stderr=log,
                stdout=log,
            )
        self.process = process
        until(lambda: self._answers(process), within_s=30)

    def _command(self) -> list[str]:
        if self._disk_bytes is None:
            return self._serve
        steps = [
            f"mount -t tmpfs -o size={self._disk_bytes} tmpfs {self.directory}",
            f"cd {self.directory}",
            f"{sys.executable} -m tests.api.migrate mailer.db",
            f"exec {shlex.join(self._serve)}",
        ]
        # A mount of one's own needs no rights in a name space of one's own.
        return ["unshare", "-Urm", "sh", "-c", " && ".join(steps)]

    @property
    def disk(self) -> Path:
        """The service's directory as the service sees it."""
        return Path(f"/proc/{self.process.pid}/root{self.directory}")

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, self.log_path.read_text()
        with suppress(OSError, http.client.HTTPException):
            return self.get("/health").status == 200
        return False

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=30)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def through(self, host: str) -> Service:
        """The same service, called at another of this machine's addresses."""
        other = copy(self)
        other.host = host
        return other

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """`body` is sent as it is when it is bytes, else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, raw, {**JSON, **(headers or {})})

    def send(self, *emails: str, **fields: Any) -> Answer:
        """Post one message."""
        message = {"emails": list(emails), "subject": "Hello", "content": "<p>Hello", **fields}
        return self.post("/v1/messages", {"messages": [message]})

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def store(self) -> Store:
        """The same database, opened by the test."""
        return Store(self.database, Rules(10**9, 10**6, UncertainPolicy.RESEND))

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def workers(self) -> list[int]:
        """Process ids of the API workers."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in children.split()]

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

"""The fake SES as a process, and the transport pointed at it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


@dataclass
class FakeSes:
    """`python -m tests.ses.fake_ses`, listening on `port`."""

    process: subprocess.Popen[str]
    port: int

    @classmethod
    def start(cls, *arguments: str) -> FakeSes:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.ses.fake_ses", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        return cls(process, int(process.stdout.readline()))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def told(self, **behaviour: Any) -> None:
        """Behave like this from now on; see `fake_ses.Told`."""
        self._ask("POST", "/_fake/told", behaviour)

    def forget(self) -> None:
        """Start a new record, and behave well."""
        self._ask("POST", "/_fake/forget", {})

    def mails(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", "/_fake/mails")
        return found

    def count(self) -> int:
        """How many mails were taken."""
        number: int = self._ask("GET", "/_fake/count")
        return number

    def calls(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", "/_fake/calls")
        return found

    def operations(self) -> list[str]:
        """The operations called, in order."""
        return [call["operation"] for call in self.calls()]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def raw(mail: Mapping[str, Any]) -> bytes:
    return base64.b64decode(mail["raw"])

"""`mailer run`, or another command that stays, as real processes that can all be killed at once."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.api.service import JSON, Answer
from tests.installation import Installation
from tests.smtp_sink import SmtpSink
from tests.waiting import until
from tests.weakened import Protection, mailer_command


class MailerRun(Installation):
    """A process group of mailer on one database; mail goes to an SMTP server on this machine.

    The log and all else but the database lie in `directory`, which stays whole.
    """

    def __init__(
        self,
        database: Path,
        directory: Path,
        smtp_port: int,
        *command: str,
        environ: Mapping[str, str],
        under: Sequence[str] = (),
        without: Protection | None = None,
    ) -> None:
        given = {
            "DATABASE_URL": f"sqlite://{database}",
            "TRANSPORT": "smtp",
            "SMTP_URL": f"smtp://127.0.0.1:{smtp_port}?starttls=off",
            "MAX_SEND_PER_SECOND": "unlimited",
            "API_WORKERS": "1",
            "SENDERS": "1",
        }
        super().__init__(directory, **{**given, **environ})
        self.database = database
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*under, *mailer_command(*(command or ("run",)), without=without)],
                env=self.environ,
                cwd=directory,
                stdin=subprocess.PIPE,  # whose end would end a sender
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log_path(self) -> Path:
        return self.directory / f"log-{self.port}"

    def serving(self) -> MailerRun:
        """Waits until the API answers."""
        until(lambda: self.ready(self.process), within_s=30)
        return self

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def get(self, path: str) -> Answer:
        with closing(self.connection()) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def post(self, body: Any) -> Answer:
        """POST /v1/messages."""
        with closing(self.connection()) as connection:
            return post(connection, body)

    def terminate(self) -> int:
        """SIGTERM to the first process; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def ended(self) -> int:
        """The exit status of a run that ends by itself."""
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        """SIGKILL to all of them; waits until none holds anything any more."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        until(lambda: not self.pids())

    def pids(self) -> list[int]:
        """The living processes of this run; one that only waits to be reaped is not."""
        members = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
                if int(group) == self.process.pid and state not in "ZX":
                    members.append(int(stat.parent.name))
        return members


def post(connection: http.client.HTTPConnection, body: Any) -> Answer:
    """POST /v1/messages on a connection that stays open."""
    connection.request("POST", "/v1/messages", json.dumps(body), JSON)
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


def recipients(sink: SmtpSink) -> list[str]:
    """Whom the sink has got mail for, in the order in which it came."""
    return [mail.recipients[0] for mail in list(sink.mails)]

"""Clients of the machine's API that post at a steady rate and keep a ledger of what they were told.

Every second client keeps its connection as long as the server lets it; the others make a new one
for each post, as most callers do.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from types import TracebackType
from typing import Final, Self

from tests.system.machine import PORT, Machine
from tests.waiting import until

CLIENTS: Final = 16


class Load:
    """Runs while its `with` block does."""

    _names = itertools.count()

    def __init__(self, machine: Machine, *, per_second: int, port: int = PORT) -> None:
        self.accepted: list[str] = []
        """Recipients of every 200."""
        self.failures: list[str] = []
        """What any other post ended with: a status, or how the connection failed."""
        self.longest_s = 0.0
        self._machine = machine
        self._port = port
        self._pause_s = CLIENTS / per_second
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(bool(n % 2),)) for n in range(CLIENTS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, posts: int) -> None:
        """Until so many more have been accepted."""
        wanted = len(self.accepted) + posts
        until(lambda: len(self.accepted) >= wanted, within_s=40)

    def _client(self, keeps: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.wait(self._pause_s):
            email = f"load{next(self._names)}@example.com"
            began = time.monotonic()
            try:
                if connection is None or connection.sock is None:
                    connection = self._machine.connection(self._port)
                self._post(connection, email, keeps)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            if connection is not None and not keeps:
                connection.close()
        if connection is not None:
            connection.close()

    def _post(self, connection: http.client.HTTPConnection, email: str, keeps: bool) -> None:
        message = {"topic_id": "load", "emails": [email], "subject": "Load", "text": "Load"}
        headers = {**self._machine.headers, "Connection": "keep-alive" if keeps else "close"}
        connection.request("POST", "/v1/messages", json.dumps({"messages": [message]}), headers)
        response = connection.getresponse()
        response.read()
        if response.status == 200:
            self.accepted.append(email)
        else:
            self.failures.append(str(response.status))

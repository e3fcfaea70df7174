"""A client as one would write it to the reference's documentation alone: plain HTTP, no more.

It knows nothing of mailer. Whatever it can do with the reference it must be able to do here, with
nothing changed but the host name.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any


class ReferenceClient:
    def __init__(self, host: str, port: int, token: str) -> None:
        self._host = host
        self._port = port
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
        }

    def send(
        self,
        topic_id: str,
        emails: list[str],
        subject: str,
        content: str,
        scheduled_at: str = "",
    ) -> dict[str, Any]:
        message = {
            "topic_id": topic_id,
            "emails": emails,
            "subject": subject,
            "content": content,
        }
        return self._call(
            "POST", "/v1/messages", {"messages": [message], "scheduled_at": scheduled_at}
        )

    def results(self, topic_id: str) -> dict[str, Any]:
        return self._call("GET", f"/v1/topics/{topic_id}")

    def cancel(self, topic_id: str) -> dict[str, Any]:
        return self._call("DELETE", f"/v1/topics/{topic_id}")

    def sent(self, hours: int) -> int:
        count: int = self._call("GET", f"/v1/events/counts/sent?hours={hours}")["count"]
        return count

    def healthy(self) -> bool:
        return self._call("GET", "/health") == {"status": "ok"}

    def ready(self) -> bool:
        return self._call("GET", "/ready") == {"status": "ok", "db": "connected"}

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = HTTPConnection(self._host, self._port, timeout=30)
        connection.request(method, path, json.dumps(body) if body else None, self._headers)
        response = connection.getresponse()
        raw = response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {raw!r}")
        answer: dict[str, Any] = json.loads(raw)
        return answer

"""Calls to mailer's own API, for `mailer send`: each is one a caller may safely repeat.

The standard library's HTTP client is enough for a handful of requests, and it goes straight to
the address it is given: proxy variables of the environment are not for one's own mail server.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

from mailer import __version__
from mailer.errors import ApiError

TIMEOUT_S: Final = 60.0
LONGEST_WAIT_S: Final = 30.0
PASSING: Final = frozenset({429, 502, 503, 504})
"""Answers after which the same request may be made again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Raises ApiError when it is not JSON: whatever answered was not mailer."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise ApiError(
                f"the answer ({self.status}) is not JSON; is this mailer's API?"
            ) from None


@dataclass(frozen=True, slots=True)
class Api:
    """Where the API is and who calls."""

    base_url: str
    token: str | None = None
    api_key: str | None = None

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request. Raises OSError or HTTPException when there is no whole answer."""
        parts = urlsplit(self.base_url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        try:
            connection.request(
                method, parts.path.rstrip("/") + path, body, {**self._headers(), **(headers or {})}
            )
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def post_messages(
        self, body: bytes, key: str, *, patience_s: float, waiting: Callable[[str], None]
    ) -> Answer:
        """Post a request under an idempotency key, again and again while the fault may pass.

        Raises ApiError when it is refused, or `patience_s` are over without an answer.
        """
        headers = {"content-type": "application/json", "idempotency-key": key}
        deadline = time.monotonic() + patience_s
        wait_s = 1.0
        while True:
            asked_s = 0.0
            try:
                answer = self.call("POST", "/v1/messages", body, headers)
            except (OSError, HTTPException) as error:
                problem = f"{self.base_url} does not answer: {error}"
            else:
                if answer.status == 200:
                    return answer
                problem = f"{answer.status}: {explain(answer)}"
                if answer.status not in PASSING:
                    raise ApiError(problem)
                asked_s = _seconds(answer.headers.get("retry-after", ""))
            wait_s = min(LONGEST_WAIT_S, max(wait_s, asked_s))
            if time.monotonic() + wait_s > deadline:
                raise ApiError(problem)
            waiting(f"{problem}; trying again in {wait_s:.0f} s")
            time.sleep(wait_s)
            wait_s *= 2

    def _headers(self) -> dict[str, str]:
        headers = {"accept": "application/json", "user-agent": f"mailer/{__version__}"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        elif self.api_key:
            headers["x-api-key"] = self.api_key
        return headers


def explain(answer: Answer) -> str:
    """The faults an error answer names (RFC 9457), as sentences."""
    try:
        problem = json.loads(answer.body)
        faults = [f"{fault['path']}: {fault['message']}" for fault in problem.get("errors", ())]
        return "\n".join(faults) or problem.get("detail") or problem.get("title") or "refused"
    except (ValueError, AttributeError, TypeError, KeyError):
        return answer.body[:200].decode(errors="replace") or "refused"


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdecimal() and len(retry_after) < 6 else 0.0

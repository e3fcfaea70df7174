"""The skylark transport: an HTTP request for each mail, over a connection of its own.

Before the connection is there nothing was handed over; once the request is on its way and no answer
comes, nobody knows whether Skylark took the mail.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import quote, urlsplit

from mailer import mime
from mailer.errors import TransportUnreachable
from mailer.hookspecs import Envelope, Outcome, Quota
from mailer.vocabulary import OutcomeKind

TIMEOUT_S = 10.0


class Skylark:
    """One account, and every session of it: nothing is kept between mails."""

    batch_size = 1
    max_in_flight = 8
    call_timeout_s = 4 * TIMEOUT_S
    reports_events = True

    def __init__(self, url: str, key: str) -> None:
        self.destination = f"Skylark at {url}"
        self._url = urlsplit(url)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "message/rfc822"}

    def open(self) -> Skylark:
        self.quota()  # whether it answers, before a mail is claimed for it
        return self

    def close(self) -> None:
        pass

    def quota(self) -> Quota:
        try:
            with closing(self._connected()) as http:
                http.request("GET", f"{self._url.path}/account", headers=self._headers)
                answer = http.getresponse()
                body = answer.read()
        except (OSError, HTTPException) as error:
            raise TransportUnreachable(f"Skylark does not answer: {error}") from None
        if answer.status != 200:
            raise TransportUnreachable(f"Skylark refuses this account: {answer.status}")
        account = json.loads(body)
        return Quota(max_per_second=account["per_second"], max_24h=account["per_day"])

    def send(self, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        return [self._send(envelope) for envelope in envelopes]

    def _send(self, envelope: Envelope) -> Outcome:
        try:
            message = mime.build(envelope)
        except ValueError as error:
            return Outcome(OutcomeKind.REJECTED, str(error))
        try:
            http = self._connected()
        except OSError as error:
            raise TransportUnreachable(f"Skylark can't be reached: {error}") from None
        to, ref = quote(envelope.recipient), envelope.request_id
        with closing(http):
            try:
                path = f"{self._url.path}/messages?to={to}&ref={ref}"
                http.request("POST", path, message, self._headers)
                answer = http.getresponse()
                body = answer.read()
            except (OSError, HTTPException) as error:
                return Outcome(OutcomeKind.UNKNOWN, f"no answer: {type(error).__name__}: {error}")
        return outcome(answer.status, answer.headers.get("Retry-After", ""), body)

    def _connected(self) -> HTTPConnection:
        kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
        http = kind(self._url.hostname or "", self._url.port, timeout=TIMEOUT_S)
        http.connect()
        return http


def outcome(status: int, retry_after: str, body: bytes) -> Outcome:
    """What Skylark's answer says of a mail."""
    words = f"{status} {body[:200].decode(errors='replace')}"
    if status == 202:
        return Outcome(OutcomeKind.ACCEPTED, provider_id=json.loads(body)["id"])
    if status == 429:
        wait_s = float(retry_after) if retry_after.isdecimal() else None
        return Outcome(OutcomeKind.THROTTLED, words, retry_after_s=wait_s)
    if status >= 500:
        return Outcome(OutcomeKind.DEFERRED, words, concerns_all=True)
    return Outcome(OutcomeKind.REJECTED, words)

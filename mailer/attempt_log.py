"""The log lines of a sender's attempts: one for each that did not go well, a sum each minute.

Attempts that went well are lines at DEBUG, since there may be hundreds a second. None tells an
address, subject or a provider's words, which may repeat them: `mailer show` has those.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from mailer.calls import Finished
from mailer.hookspecs import Outcome
from mailer.mail import ClaimedMail
from mailer.masking import address_hash, code_of
from mailer.vocabulary import OutcomeKind

log = logging.getLogger("mailer.attempts")

SUM_EVERY_US: Final = 60_000_000


class AttemptLog:
    """One sender's. `topic_of` tells the topic of a claimed mail."""

    def __init__(self, key: bytes, topic_of: Callable[[ClaimedMail], str | None]) -> None:
        self._key = key
        self._topic_of = topic_of
        self._counts: dict[str, Counter[str]] = {}
        self._sum_at_us = 0

    def note(self, end: Finished) -> None:
        """What came of a call, now that it is on record."""
        if end.outcomes is None:
            return
        counts = self._counts.setdefault(end.transport, Counter())
        counts.update(outcome.kind for outcome in end.outcomes)
        for mail, outcome in zip(end.call.mails, end.outcomes, strict=True):
            level = logging.DEBUG if outcome.kind is OutcomeKind.ACCEPTED else logging.INFO
            if log.isEnabledFor(level):
                self._line(level, end, mail, outcome)

    def sum_up(self, now_us: int) -> None:
        """Once a minute, for each transport that was used: how many mails came to which end."""
        if now_us < self._sum_at_us:
            return
        self._sum_at_us = now_us + SUM_EVERY_US
        for transport, counts in self._counts.items():
            fields = {"transport": transport, "mails": counts.total(), **counts}
            log.info("attempts in a minute", extra=fields)
        self._counts = {}

    def _line(self, level: int, end: Finished, mail: ClaimedMail, outcome: Outcome) -> None:
        fields = {
            "mail_id": mail.request_id,
            "http_request_id": mail.http_request_id,
            "topic": self._topic_of(mail),
            "transport": end.transport,
            "attempt": mail.attempt,
            "outcome": outcome.kind,
            "code": code_of(outcome.detail),
            "duration_ms": end.ended_at_ms - end.started_at_ms,
            "recipient": address_hash(self._key, mail.recipient.email),
        }
        log.log(level, "attempt", extra=fields)
        if outcome.detail:
            log.debug("the provider said: %s", outcome.detail, extra={"mail_id": mail.request_id})

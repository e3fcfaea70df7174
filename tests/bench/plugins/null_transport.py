"""A transport that takes everything at once: what remains is mailer's own work.

NULL_BATCH is how many mails it takes in a call, NULL_NAME what it is called. It rejects recipients
whose address begins with "bad".
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from mailer.hookspecs import Envelope, Outcome, Quota, Transport, hookimpl
from mailer.settings import Settings
from mailer.vocabulary import OutcomeKind

_TAKEN = Outcome(OutcomeKind.ACCEPTED, "taken")
_REJECTED = Outcome(OutcomeKind.REJECTED, detail="550 no such user")


class Null:
    """Transport and session in one."""

    destination = "nowhere"
    reports_events = False
    max_in_flight = 8
    call_timeout_s = 60.0

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def open(self) -> Null:
        return self

    def send(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        return [_REJECTED if to.recipient.startswith("bad") else _TAKEN for to in envelopes]

    def close(self) -> None:
        pass

    def quota(self) -> Quota:
        return Quota()


@hookimpl
def mailer_transports(settings: Settings) -> Mapping[str, Transport]:
    name = os.environ.get("NULL_NAME", "null")
    return {name: Null(int(os.environ.get("NULL_BATCH", "50")))}

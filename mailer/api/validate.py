"""From the body of `POST /v1/messages` to what is stored, all faults named at once.

A fault of one recipient can be skipped (`on_error: "skip"`); a fault of the request or of a
message's content refuses all of it. Nothing here reads or writes anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from mailer import templates
from mailer.api import addresses, content, times
from mailer.api.problems import MAX_FAULTS
from mailer.api.requests import MAX_MAILS, MessageBody, MessagesBody
from mailer.errors import Fault, InvalidRequest
from mailer.mail import Content, NewMessage, Recipient
from mailer.routing import Ways, queue_of
from mailer.vocabulary import Lane

MAX_DATA_DEPTH: Final = 32
MAX_TEMPLATE_CHARS: Final = 2_000_000_000
"""Of a message's templates, for all recipients together: every one is filled in to check it."""


@dataclass(slots=True)
class Draft:
    """What a request asks for, checked."""

    transport: str
    due_at_ms: int
    messages: list[NewMessage] = field(default_factory=list)
    positions: list[list[int | None]] = field(default_factory=list)
    """For each address as given: which mail of its message it got; None: skipped."""
    total: int = 0
    duplicates: int = 0
    errors: int = 0
    skipped: list[Fault] = field(default_factory=list)
    """The first of the recipients that were left out."""

    @property
    def mails(self) -> int:
        return sum(len(message.recipients) for message in self.messages)


class Checker:
    """Knows what a request is checked against."""

    def __init__(
        self,
        *,
        transports: frozenset[str],
        ways: Ways,
        default_from: str,
        track_opens: bool,
    ) -> None:
        self._transports = transports
        self._ways = ways
        self._default_from = default_from
        self._track_opens = track_opens

    def check(self, body: MessagesBody, faults: list[Fault], *, now_ms: int) -> Draft:
        """`faults` are those found in parsing. Raises InvalidRequest with all of them."""
        draft = Draft(body.transport or queue_of(self._ways.default), now_ms)
        self._check_transport(body.transport, "transport", faults)
        if body.scheduled_at:
            try:
                draft.due_at_ms = max(now_ms, times.parse(body.scheduled_at, now_ms=now_ms))
            except times.TimeError as error:
                faults.append(Fault("scheduled_at", error.code, str(error)))
        draft.total = sum(_asked(message) for message in body.messages or [] if message is not None)
        if body.messages == []:
            faults.append(Fault("messages", "missing", "at least one message"))
        if draft.total > MAX_MAILS:
            text = f"at most {MAX_MAILS} mails in a request; these are {draft.total}"
            faults.append(Fault("messages", "too_many", text))
        else:
            for n, message in enumerate(body.messages or []):
                if message is not None:
                    skip = body.on_error == "skip"
                    path = f"messages[{n}]"
                    self._check_transport(message.transport, f"{path}.transport", faults)
                    way = message.transport or body.transport
                    self._check_message(message, path, way, draft, faults, skip, now_ms)
        if not faults and not draft.mails:
            faults += draft.skipped
        if faults:
            raise InvalidRequest(faults)
        return draft

    def _check_transport(self, name: str | None, path: str, faults: list[Fault]) -> None:
        if name and name not in self._transports:
            known = ", ".join(sorted(self._transports))
            text = f"not configured here; there is: {known}"
            faults.append(Fault(path, "transport_unknown", text))

    def _check_message(
        self,
        message: MessageBody,
        path: str,
        way: str | None,
        draft: Draft,
        faults: list[Fault],
        skip: bool,
        now_ms: int,
    ) -> None:
        asked = _asked(message)
        # What has the wrong type was taken for absent; that it is missing is not said as well.
        named = {fault.path for fault in faults}
        if not asked and not {f"{path}.emails", f"{path}.recipients"} & named:
            faults.append(Fault(f"{path}.emails", "missing", "at least one recipient"))
        templated = any(r is not None and r.data is not None for r in message.recipients or [])
        checked, content_faults = content.checked(
            message,
            lane=Lane.INTERACTIVE if asked == 1 else Lane.BULK,
            track_opens=self._track_opens,
            templated=templated,
            now_ms=now_ms,
            path=path,
        )
        faults += [fault for fault in content_faults if fault.path not in named]
        recipients = _Recipients(path, len(message.emails or []))
        recipients.take(message)
        if templated and not content_faults and checked.subject is not None:
            size = len(checked.html or "") + len(checked.text or "")
            if size * asked > MAX_TEMPLATE_CHARS:
                text = f"text times recipients is over {MAX_TEMPLATE_CHARS} characters"
                faults.append(Fault(f"{path}.content", "template_too_long", text))
            else:
                recipients.fill(checked, faults)
        if skip:
            draft.errors += len(recipients.faults)
            draft.skipped += recipients.faults[: MAX_FAULTS - len(draft.skipped)]
        else:
            faults += recipients.faults[:MAX_FAULTS]
        draft.duplicates += recipients.duplicates
        kept, positions = recipients.kept()
        draft.positions.append(positions)
        sender = checked.from_email or self._default_from
        queue = way or queue_of(self._ways.choose(checked.topic_id, sender))
        draft.messages.append(NewMessage(checked, kept, queue))


class _Recipients:
    """A message's recipients: each address once, and what is wrong with the others."""

    def __init__(self, path: str, emails: int) -> None:
        self.faults: list[Fault] = []
        self.duplicates = 0
        self._path = path
        self._emails = emails
        self._unique: list[Recipient | None] = []
        """None: left out after all."""
        self._first_asked: list[int] = []
        self._by_address: dict[str, int] = {}
        self._given: list[int | None] = []

    def take(self, message: MessageBody) -> None:
        emails = message.emails or []
        places = {email: n for n, email in enumerate(emails)}
        if len(places) == len(emails) and addresses.all_as_stored(emails):
            # The usual list has nothing to mend: asked as a whole it takes a third of the time.
            self._unique = [Recipient(email) for email in emails]
            self._by_address = places
            self._first_asked, self._given = list(range(len(emails))), list(range(len(emails)))
        else:
            for email in emails:
                self._add(email, "", None)
        for body in message.recipients or []:
            if body is None or body.email is None:
                self._given.append(None)
            else:
                self._add(body.email, body.name or "", body.data)

    def _add(self, email: str | None, name: str, data: dict[str, Any] | None) -> None:
        asked = len(self._given)
        if email is None:  # reported when it was parsed
            self._given.append(None)
            return
        try:
            address = addresses.normalized(email)
            if name:
                addresses.check_name(name)
        except addresses.AddressError as error:
            self._refuse(asked, error.code, str(error))
            return
        if data is not None and _too_deep(data):
            self._refuse(asked, "data_too_deep", f"data nested more than {MAX_DATA_DEPTH} deep")
            return
        # RFC 5321 lets servers tell Ann@ from ann@; hardly one does, and people are listed twice.
        position = self._by_address.setdefault(address.lower(), len(self._unique))
        if position < len(self._unique):
            self.duplicates += 1
        else:
            self._unique.append(Recipient(address, name, data))
            self._first_asked.append(asked)
        self._given.append(position)

    def _refuse(self, asked: int, code: str, message: str) -> None:
        self._given.append(None)
        self.faults.append(Fault(self._where(asked), code, message))

    def fill(self, shared: Content, faults: list[Fault]) -> None:
        """Try the templates with each recipient's data."""
        people = [recipient for recipient in self._unique if recipient is not None]
        for fault in templates.faults(shared, people):
            if fault.recipient is None:
                part = "content" if fault.part == "html" else fault.part
                faults.append(Fault(f"{self._path}.{part}", fault.code, fault.message))
            elif self._unique[fault.recipient] is not None:
                where = self._where(self._first_asked[fault.recipient])
                text = f"{people[fault.recipient].email}: {fault.message}"
                self.faults.append(Fault(where, fault.code, text))
                self._unique[fault.recipient] = None

    def kept(self) -> tuple[tuple[Recipient, ...], list[int | None]]:
        """Those that get a mail, and for each address as given its place among them."""
        kept = [recipient for recipient in self._unique if recipient is not None]
        if len(kept) == len(self._unique):
            return tuple(kept), self._given
        places: list[int | None] = []
        place = 0
        for recipient in self._unique:
            places.append(None if recipient is None else place)
            place += recipient is not None
        return tuple(kept), [None if n is None else places[n] for n in self._given]

    def _where(self, asked: int) -> str:
        if asked < self._emails:
            return f"{self._path}.emails[{asked}]"
        return f"{self._path}.recipients[{asked - self._emails}]"


def _asked(message: MessageBody) -> int:
    return len(message.emails or []) + len(message.recipients or [])


def _too_deep(data: Any) -> bool:
    level = [data]
    for _ in range(MAX_DATA_DEPTH):
        level = [item for value in level for item in _inside(value)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value

"""Endpoints: where events go, which ones, signed by which secrets, and how it fares.

There is one record for each on the plugin's shelf, the same whether the API, a command or
WEBHOOK_ENDPOINTS made it. Values are changed by making new ones; a change is stored within the
transaction in which the record was read.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from mailer.errors import Conflict, Fault, InvalidRequest, NotFound
from mailer.hookspecs import Event, Shelf
from mailer.vocabulary import EventType
from mailer_webhook.addresses import Network, checked_url
from mailer_webhook.schedule import Health
from mailer_webhook.signing import new_secret

MAX_ENDPOINTS: Final = 50
MAX_TOPICS: Final = 100
MAX_TOPIC_CHARS: Final = 255
MAX_BATCH: Final = 100
OLD_SECRET_MS: Final = 24 * 3600 * 1000
"""How long the secret before is used beside the new one."""

_PREFIX: Final = "endpoint/"


class Secret(msgspec.Struct, frozen=True):
    key: str
    until_ms: int | None = None
    """None: until another takes its place."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint is told, and how."""

    url: str
    types: tuple[str, ...] = ()
    """Types of events; all when empty."""
    topics: tuple[str, ...] = ()
    """Patterns of topic ids, `*` for any characters; all events when empty."""
    batch_size: int = 1
    """How many events one request may bring. Above 1 the body is a batch, even of one event."""

    def faults(self, allowed: Sequence[Network]) -> list[Fault]:
        """All that is wrong with it."""
        found = []
        try:
            checked_url(self.url, allowed)
        except ValueError as error:
            found.append(Fault("url", "url_invalid", str(error)))
        for n, type_ in enumerate(self.types):
            if type_ not in {*EventType}:
                known = f"{type_[:80]!r} is no type of event; there are {', '.join(EventType)}"
                found.append(Fault(f"types[{n}]", "type_unknown", known))
        if len(self.topics) > MAX_TOPICS:
            found.append(Fault("topics", "too_many", f"at most {MAX_TOPICS} patterns"))
        for n, pattern in enumerate(self.topics):
            if not 0 < len(pattern) <= MAX_TOPIC_CHARS:
                length = f"a pattern has 1 to {MAX_TOPIC_CHARS} characters"
                found.append(Fault(f"topics[{n}]", "topic_invalid", length))
        if not 1 <= self.batch_size <= MAX_BATCH:
            found.append(Fault("batch_size", "out_of_range", f"from 1 to {MAX_BATCH}"))
        return found

    def checked(self, allowed: Sequence[Network]) -> Choice:
        """Itself. Raises InvalidRequest with all faults."""
        if found := self.faults(allowed):
            raise InvalidRequest(found)
        return self


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    endpoint_id: str
    choice: Choice
    secrets: tuple[Secret, ...]
    """The newest first; at most two are valid."""
    created_at_ms: int
    from_settings: bool = False
    """It stands in WEBHOOK_ENDPOINTS, and is removed when it is taken out there."""
    enabled: bool = True
    off_reason: str = ""
    off_at_ms: int | None = None
    off_told: bool = True
    """False: the event that tells of its being switched off is still to be stored."""
    health: Health = Health()
    delivered: int = 0
    given_up: int = 0

    @classmethod
    def made(cls, choice: Choice, *, now_ms: int, from_settings: bool = False) -> Endpoint:
        """A new one, with a secret of its own."""
        return cls(
            endpoint_id=f"we-{secrets.token_hex(8)}",
            choice=choice,
            secrets=(Secret(new_secret()),),
            created_at_ms=now_ms,
            from_settings=from_settings,
        )

    def wants(self, event: Event) -> bool:
        types, topics = self.choice.types, self.choice.topics
        return (
            self.enabled
            and (not types or event.type in types)
            and (not topics or any(fnmatchcase(event.topic_id or "", glob) for glob in topics))
        )

    def trouble(self) -> str:
        """What an operator should know of it; empty when all is well."""
        if not self.enabled:
            return f"is off since {written(self.off_at_ms or 0)}: {self.off_reason}"
        if self.health.failing_since_ms is not None and self.health.probing:
            since = written(self.health.failing_since_ms)
            return f"fails since {since}: {self.health.last_failure}"
        return ""

    def signing_keys(self, now_ms: int) -> list[str]:
        """Those to sign with now, the newest first."""
        return [s.key for s in self.secrets if s.until_ms is None or now_ms < s.until_ms]

    def rotated(self, now_ms: int) -> Endpoint:
        """With a new secret; the one before is used beside it for a day."""
        before = Secret(self.secrets[0].key, now_ms + OLD_SECRET_MS)
        return msgspec.structs.replace(self, secrets=(Secret(new_secret()), before))

    def switched_off(self, reason: str, now_ms: int, *, told: bool) -> Endpoint:
        """What waits for it waits on; what happens from now on it is not told."""
        return msgspec.structs.replace(
            self, enabled=False, off_reason=reason, off_at_ms=now_ms, off_told=told
        )

    def switched_on(self) -> Endpoint:
        """Its past failures are forgotten: it is tried at once."""
        return msgspec.structs.replace(
            self, enabled=True, off_reason="", off_at_ms=None, off_told=True, health=Health()
        )


class Endpoints:
    """All of them, as the shelf holds them."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def all(self) -> list[Endpoint]:
        """The oldest first."""
        records = self._shelf.read(_PREFIX, limit=MAX_ENDPOINTS)
        found = (msgspec.json.decode(value, type=Endpoint) for _, value in records)
        return sorted(found, key=lambda endpoint: endpoint.created_at_ms)

    def find(self, endpoint_id: str) -> Endpoint | None:
        key = _PREFIX + endpoint_id
        value = self._shelf.get(key) if key.isprintable() and len(key) < MAX_TOPIC_CHARS else None
        return msgspec.json.decode(value, type=Endpoint) if value is not None else None

    def get(self, endpoint_id: str) -> Endpoint:
        """Raises NotFound."""
        endpoint = self.find(endpoint_id)
        if endpoint is None:
            raise NotFound(f"there is no endpoint {endpoint_id[:80]!r}")
        return endpoint

    def put(self, endpoint: Endpoint) -> None:
        """Store it. Raises Conflict when it is one too many, or another has its URL."""
        others = [e for e in self.all() if e.endpoint_id != endpoint.endpoint_id]
        if len(others) >= MAX_ENDPOINTS:
            raise Conflict(f"there are {MAX_ENDPOINTS} endpoints, which is the most there can be")
        for other in others:
            if other.choice.url == endpoint.choice.url:
                raise Conflict(f"endpoint {other.endpoint_id} has this URL")
        self._shelf.put(_PREFIX + endpoint.endpoint_id, msgspec.json.encode(endpoint))

    def remove(self, endpoint_id: str) -> None:
        """Raises NotFound. What it has not been told yet is dropped by the deliverer."""
        self.get(endpoint_id)
        self._shelf.remove(_PREFIX + endpoint_id)

    def match_settings(self, choices: Iterable[Choice], now_ms: int) -> None:
        """Have the endpoints of WEBHOOK_ENDPOINTS: as they stand there, and no others."""
        wanted = {choice.url: choice for choice in choices}
        for endpoint in self.all():
            choice = wanted.pop(endpoint.choice.url, None)
            if choice is not None:
                self.put(msgspec.structs.replace(endpoint, choice=choice, from_settings=True))
            elif endpoint.from_settings:
                self.remove(endpoint.endpoint_id)
        for choice in wanted.values():
            self.put(Endpoint.made(choice, now_ms=now_ms, from_settings=True))


def written(at_ms: int) -> str:
    """RFC 3339, in the server's zone like all of the API's times."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone()
    return at.isoformat(timespec="milliseconds")

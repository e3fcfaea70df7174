"""The contract of translators of providers' callbacks: what is genuine is told, nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import pytest
from pluggy import HookCaller

from mailer.errors import InvalidRequest
from mailer.hookspecs import ProviderEvent
from mailer.settings import Settings
from mailer.testing.asking import hook_of
from mailer.vocabulary import EventType

EPOCH_MS: Final = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1000)
CENTURY_MS: Final = 100 * 366 * 86_400_000

FOREIGN: Final = (
    b"",
    b"{",
    b"{}",
    b"[]",
    b"null",
    b'"text"',
    b"1e999",
    b'{"event": "delivered", "id": 1}',
    b'{"type": ["delivered"], "Type": {}, "mail": 7}',
    b"event=delivered&id=1",
    b"\xff\xfe\x00",
    b"[" * 20_000,
    b"x" * 200_000,
)


@dataclass(frozen=True, slots=True)
class Callback:
    """A request as a provider makes it. Header names are lower case."""

    headers: Mapping[str, str]
    body: bytes


class NotificationContract:
    """What every translator of callbacks owes to the event log.

    Fixtures: `plugin`, the module or object with `mailer_notifications`; `settings`, with which
    the provider is believed; `genuine`, Callbacks of the provider that tell of events.
    """

    @pytest.fixture
    def hook(self, plugin: object) -> HookCaller:
        return hook_of(plugin, "mailer_notifications")

    def test_what_is_genuine_is_told(
        self, hook: HookCaller, settings: Settings, genuine: Sequence[Callback]
    ) -> None:
        assert genuine
        for callback in genuine:
            events = told(hook, settings, callback)
            assert events, f"nothing was told by {callback.body[:200]!r}"
            for event in events:
                assert isinstance(event.type, EventType)
                assert event.source
                assert event.source_event_id
                assert event.raw, "the original has to be kept"
                assert event.request_id or event.provider_id, "of which mail?"
                assert EPOCH_MS < event.at_ms < EPOCH_MS + CENTURY_MS, "at_ms is in milliseconds"
            assert len({event.source_event_id for event in events}) == len(events)

    def test_the_same_callback_again_is_the_same_events(
        self, hook: HookCaller, settings: Settings, genuine: Sequence[Callback]
    ) -> None:
        """A provider repeats what it was not thanked for; the log keeps each event once."""
        for callback in genuine:
            first, again = (told(hook, settings, callback) for _ in range(2))
            assert ids(first) == ids(again)

    def test_other_headers_change_nothing(
        self, hook: HookCaller, settings: Settings, genuine: Sequence[Callback]
    ) -> None:
        """Proxies add theirs."""
        more = {"host": "mail.example.org", "x-forwarded-for": "192.0.2.1", "via": "1.1 proxy"}
        for callback in genuine:
            through = replace(callback, headers={**callback.headers, **more})
            assert ids(told(hook, settings, through)) == ids(told(hook, settings, callback))

    def test_callbacks_of_others_are_left_to_others(
        self, hook: HookCaller, settings: Settings
    ) -> None:
        for body in FOREIGN:
            callback = Callback({"content-type": "application/json"}, body)
            assert told(hook, settings, callback) is None, body[:80]

    def test_what_was_altered_on_its_way_is_never_believed(
        self, hook: HookCaller, settings: Settings, genuine: Sequence[Callback]
    ) -> None:
        for callback in genuine:
            original = essence(told(hook, settings, callback))
            for altered in alterations(callback.body):
                try:
                    events = told(hook, settings, replace(callback, body=altered))
                except (InvalidRequest, OSError):
                    continue
                assert not events or essence(events) == original, altered

    def test_what_is_not_signed_is_not_believed(
        self, hook: HookCaller, settings: Settings, genuine: Sequence[Callback]
    ) -> None:
        """Without its headers, unless all that proves it stands in the body."""
        for callback in genuine:
            original = essence(told(hook, settings, callback))
            try:
                events = told(hook, settings, replace(callback, headers={}))
            except (InvalidRequest, OSError):
                continue
            assert not events or essence(events) == original


def told(
    hook: HookCaller, settings: Settings, callback: Callback
) -> Sequence[ProviderEvent] | None:
    """As the API asks."""
    found: Sequence[ProviderEvent] | None = hook(
        settings=settings, headers=callback.headers, body=callback.body
    )
    return found


def ids(events: Sequence[ProviderEvent] | None) -> list[str]:
    return [event.source_event_id for event in events or ()]


def essence(events: Sequence[ProviderEvent] | None) -> list[ProviderEvent]:
    """All but the original, which may differ in what means nothing."""
    return [replace(event, raw="") for event in events or ()]


def alterations(body: bytes) -> Iterator[bytes]:
    """The body with one byte changed, or cut short, at places all over it."""
    for place in range(0, len(body), max(1, len(body) // 40)):
        yield body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        yield body[:place]

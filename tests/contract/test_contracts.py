"""The contracts find what they are there to find: for each fault a plugin that has it."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mailer.errors import Fault, InvalidRequest
from mailer.hookspecs import Event, ProviderEvent, Shelf, hookimpl
from mailer.settings import Settings
from mailer.testing import Callback, EventPluginContract, NotificationContract
from mailer.testing.asking import hook_of
from mailer.testing.events import a_shelf
from mailer.vocabulary import EventType

BODY = json.dumps({"provider": "pigeon", "id": "1", "mail": "contract-1"}).encode()
GENUINE = [Callback({"pigeon-digest": hashlib.sha256(BODY).hexdigest()}, BODY)]


def plugin(**names: object) -> object:
    module = ModuleType("a_plugin_of_the_tests")
    vars(module).update(names)
    return module


def listener(told: Callable[[Event, Shelf], object]) -> object:
    @hookimpl
    def mailer_event(event: Event, shelf: Shelf) -> None:
        told(event, shelf)

    return plugin(mailer_event=mailer_event)


def once(seen: set[str]) -> Callable[[Event, Shelf], None]:
    def told(event: Event, shelf: Shelf) -> None:
        assert event.id not in seen
        seen.add(event.id)

    return told


def needs(name: str) -> Callable[[Event, Shelf], object]:
    return lambda event, shelf: len(getattr(event, name))


def hoards(kept: list[str]) -> Callable[[Event, Shelf], None]:
    return lambda event, shelf: kept.append(event.id * 500)


CONTRACT = EventPluginContract()


@pytest.mark.parametrize(
    ("told", "test"),
    [
        (lambda e, s: {EventType.OPEN: 1}[e.type], CONTRACT.test_it_takes_events_of_every_type),
        (needs("recipient"), CONTRACT.test_it_takes_an_event_of_which_little_is_known),
        (needs("mail_id"), CONTRACT.test_it_takes_an_event_of_which_little_is_known),
        (lambda e, s: e.detail.encode("ascii"), CONTRACT.test_it_takes_whatever_the_texts_hold),
        (lambda e, s: s.put(e.topic_id, b""), CONTRACT.test_it_takes_whatever_the_texts_hold),
        (once(set()), CONTRACT.test_it_can_be_told_the_same_event_again),
        (hoards([]), CONTRACT.test_its_memory_stays_flat),
    ],
)
def test_an_event_plugin_with_a_fault_is_found_out(
    told: Callable[[Event, Shelf], object], test: Callable[..., None], tmp_path: Path
) -> None:
    hook = hook_of(listener(told), "mailer_event")
    with a_shelf(tmp_path) as shelf, pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
        test(hook, shelf)


def test_one_that_can_not_begin_anew_is_found_out(tmp_path: Path) -> None:
    hook = hook_of(listener(once(set())), "mailer_event")
    with pytest.raises(AssertionError):
        CONTRACT.test_it_begins_anew_where_its_shelf_was_undone(hook, tmp_path, lambda shelf: None)


def test_one_that_keeps_to_itself_passes(tmp_path: Path) -> None:
    hook = hook_of(listener(lambda event, shelf: shelf.put(event.id, b"")), "mailer_event")
    with a_shelf(tmp_path) as shelf:
        for name in dir(CONTRACT):
            if name.startswith("test_") and "anew" not in name:
                getattr(CONTRACT, name)(hook, shelf)


NUMBERS = itertools.count()


def translator(
    *, trusts: bool = False, takes_all: bool = False, **changes: Callable[[], object]
) -> object:
    """A translator of pigeons' callbacks, right but for what is said."""

    @hookimpl
    def mailer_notifications(
        settings: Settings, headers: Mapping[str, str], body: bytes
    ) -> Sequence[ProviderEvent] | None:
        digest = headers.get("pigeon-digest")
        if digest is None and not trusts:
            return [] if takes_all else None
        if digest != hashlib.sha256(body).hexdigest() and not trusts:
            raise InvalidRequest([Fault("", "digest", "it was altered")])
        told = json.loads(body)
        fields: dict[str, Any] = {
            "type": EventType.DELIVERY,
            "at_ms": 1_900_000_000_000,
            "source": "pigeon",
            "source_event_id": told["id"],
            "request_id": told["mail"],
            "raw": body.decode(),
        }
        return [ProviderEvent(**{**fields, **{name: make() for name, make in changes.items()}})]

    return plugin(mailer_notifications=mailer_notifications)


def run_notification_contract(plugin: object) -> None:
    contract = NotificationContract()
    hook = hook_of(plugin, "mailer_notifications")
    settings = Settings()
    contract.test_what_is_genuine_is_told(hook, settings, GENUINE)
    contract.test_the_same_callback_again_is_the_same_events(hook, settings, GENUINE)
    contract.test_other_headers_change_nothing(hook, settings, GENUINE)
    contract.test_callbacks_of_others_are_left_to_others(hook, settings)
    contract.test_what_was_altered_on_its_way_is_never_believed(hook, settings, GENUINE)
    contract.test_what_is_not_signed_is_not_believed(hook, settings, GENUINE)


def test_a_right_translator_passes() -> None:
    run_notification_contract(translator())


@pytest.mark.parametrize(
    "faulty",
    [
        translator(trusts=True),
        translator(takes_all=True),
        translator(at_ms=lambda: 1_900_000_000),
        translator(source_event_id=lambda: str(next(NUMBERS))),
        translator(source_event_id=lambda: ""),
        translator(request_id=lambda: None),
        translator(raw=lambda: ""),
    ],
    ids=["trusts", "takes all", "seconds", "other ids", "no id", "no mail", "no original"],
)
def test_a_translator_with_a_fault_is_found_out(faulty: object) -> None:
    with pytest.raises((AssertionError, ValueError, TypeError, KeyError)):
        run_notification_contract(faulty)


def test_a_plugin_that_mailer_would_refuse_is_found_out() -> None:
    made_for_another = plugin(mailer_hook_api=99)
    with pytest.raises(AssertionError, match="is made for version 99"):
        hook_of(made_for_another, "mailer_event")

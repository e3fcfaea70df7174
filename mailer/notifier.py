"""A notifier: tells one event plugin of the log's events, in order, each at least once.

Each plugin has a process of its own, a child of the supervisor like any other, so that one that
raises, hangs, crashes, leaks or floods its output delays nobody else. No transaction is open while
a plugin is at work: what it puts on its shelf is stored afterwards, together with its cursor.

Many events share a commit. Which of them was in hand when the process ended is known to the next
one, so that an event which ends it every time is put aside like one that makes the plugin raise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final

import pluggy

from mailer import plugins
from mailer.asleep import Sleep
from mailer.clock import Clock, SystemClock
from mailer.confined import time_limit
from mailer.errors import PluginError, StoreUnavailable
from mailer.hookspecs import Event, Shelf
from mailer.in_hand import NOTHING, InHand
from mailer.reporting import unexpected
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.cursors import Cursor, Failure
from mailer.store.log import place_of
from mailer.store.outcomes import rules_of
from mailer.store.shelves import Draft

log = logging.getLogger("mailer.notifier")

POLL_S: Final = 0.2
"""How late a plugin hears of an event that is new."""
RETRY_STORE_S: Final = 1.0
EVENTS_A_COMMIT: Final = 100
COMMIT_EVERY_US: Final = 200_000
FIRST_WAIT_MS: Final = 1_000
LONGEST_WAIT_MS: Final = 60_000
ENDED: Final = "its process ended during the call: see the log for the cause"
DETAIL_CHARS: Final = 500


def main(settings: Settings, plugin: str) -> None:
    """Tell the plugin of events until asked to stop. Raises PluginError if it takes none."""
    hooks = plugins.event_hooks(plugins.load())
    if plugin not in hooks:
        raise PluginError(f"no plugin {plugin} takes events")
    sleep = Sleep()
    store = Store(settings.database_path, rules_of(settings))
    in_hand = InHand(settings.database_path, plugin)

    def asked_to_stop() -> bool:
        sleep.until(0)
        return sleep.stopping

    notifier = Notifier(
        store,
        plugin,
        hooks[plugin],
        SystemClock(),
        in_hand,
        tries=settings.plugin_tries,
        time_limit=lambda: time_limit(settings.plugin_timeout_s),
        asked_to_stop=asked_to_stop,
    )
    try:
        while not sleep.stopping:
            sleep.until(_step(notifier))
    finally:
        sleep.close()
        in_hand.close()
        store.close()


def _step(notifier: Notifier) -> float:
    try:
        return notifier.step()
    except StoreUnavailable as error:
        log.warning("%s", error)
        return RETRY_STORE_S


@dataclass(frozen=True, slots=True)
class _Told:
    """What came of telling some events, until that is stored."""

    before: int
    """The place in the log they follow."""
    reached: int
    """The place up to which all went well."""
    draft: Draft
    failure: Failure | None = None
    """Of the event behind it."""


class Notifier:
    """Tells one plugin, step by step."""

    def __init__(
        self,
        store: Store,
        plugin: str,
        hook: pluggy.HookCaller,
        clock: Clock,
        in_hand: InHand,
        *,
        tries: int,
        time_limit: Callable[[], AbstractContextManager[None]],
        asked_to_stop: Callable[[], bool],
    ) -> None:
        self._store = store
        self._cursors = store.cursors
        self._shelf: Shelf = store.shelf(plugin)
        self._plugin = plugin
        self._hook = hook
        self._clock = clock
        self._tries = tries
        self._time_limit = time_limit
        self._asked_to_stop = asked_to_stop
        self._in_hand = in_hand
        self._told: _Told | None = None

    def step(self) -> float:
        """Tell some events, if there are any; how many seconds to wait before the next step.

        Raises StoreUnavailable; what was told is then stored before anything else is told.
        """
        if self._told is None:
            if self._in_hand.place() != NOTHING:
                self._note_what_ended_the_last()
            if self._retry_dead_letter():
                return 0
            cursor = self._cursors.get(self._plugin)
            if (wait_s := self._wait_s(cursor)) > 0:
                return min(wait_s, POLL_S)
            self._told = self._tell_next(cursor)
        if self._told is None:
            return POLL_S
        with self._store.write():
            self._keep(self._told)
        self._told = None
        return 0

    def _note_what_ended_the_last(self) -> None:
        """Count an event that the process before this one did not survive as failed."""
        place = self._in_hand.place()
        cursor = self._cursors.get(self._plugin)
        if place > cursor.event:
            with self._store.write():
                self._note(Failure(place, _failures(cursor, place) + 1, ENDED))
        self._in_hand.put_down()

    def _wait_s(self, cursor: Cursor) -> float:
        """Until the event that failed is to be told again, if it is."""
        if cursor.failure is None or cursor.failure.times >= self._tries:
            return 0
        wait_ms = cursor.retry_at_ms - self._clock.wall_ms()
        return wait_ms / 1000 if wait_ms <= LONGEST_WAIT_MS else 0  # else the clock was set back

    def _tell_next(self, cursor: Cursor) -> _Told | None:
        """Tell what follows the cursor."""
        page = self._store.log.page(cursor.event, limit=EVENTS_A_COMMIT)
        if page.end == cursor.event:
            return None
        draft = Draft(self._shelf)
        reached = cursor.event
        commit_at_us = self._clock.mono_us() + COMMIT_EVERY_US
        for event in page.events:
            place = place_of(event.id)
            if _failures(cursor, place) >= self._tries:  # the last ended its process
                return _Told(cursor.event, reached, draft, cursor.failure)
            own = Draft(draft)
            why = self._tell(event, own)
            if why is not None:
                failure = Failure(place, _failures(cursor, place) + 1, why)
                return _Told(cursor.event, reached, draft, failure)
            own.put_on(draft)
            reached = place
            if self._clock.mono_us() > commit_at_us or self._asked_to_stop():
                return _Told(cursor.event, reached, draft)
        return _Told(cursor.event, page.end, draft)

    def _tell(self, event: Event, shelf: Shelf) -> str | None:
        """Call the plugin; what went wrong."""
        self._in_hand.take(place_of(event.id))
        why = None
        try:
            with self._time_limit():
                self._hook(event=event, shelf=shelf)
        except MemoryError:
            raise  # what it has taken comes back only with the end of the process
        except BaseException as error:
            unexpected(error, f"plugin {self._plugin}, told of event {event.id}")
            why = f"{type(error).__name__}: {error}"[:DETAIL_CHARS]
        self._in_hand.put_down()
        return why

    def _keep(self, told: _Told) -> None:
        """Store what came of it, in the running transaction."""
        failure = told.failure
        given_up = failure is not None and failure.times >= self._tries
        reached = failure.event if failure and given_up else told.reached
        if reached != told.before and not self._cursors.move(self._plugin, told.before, reached):
            log.warning("another process tells %s of the same events", self._plugin)
            return
        told.draft.put_on(self._shelf)
        if failure is None:
            return
        if given_up:
            log.error("event %d is put aside: see `mailer events dead`", failure.event)
            self._cursors.put_aside(self._plugin, failure, now_ms=self._clock.wall_ms())
        else:
            self._note(failure)

    def _note(self, failure: Failure) -> None:
        wait_ms = min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (failure.times - 1))
        retry_at_ms = self._clock.wall_ms() + wait_ms
        self._cursors.fail(self._plugin, failure, retry_at_ms=retry_at_ms)

    def _retry_dead_letter(self) -> bool:
        """Tell a dead letter once more, if someone wants it; its failure is noted before."""
        letter = self._cursors.to_retry(self._plugin)
        if letter is None:
            return False
        failure = replace(letter.failure, times=letter.failure.times + 1, detail=ENDED)
        with self._store.write():
            self._cursors.put_aside(self._plugin, failure, now_ms=self._clock.wall_ms())
        event = self._store.log.get(failure.event)
        draft = Draft(self._shelf)
        why = None
        if event is None:
            log.warning(
                "event %d is not kept any more: %s is not told", failure.event, self._plugin
            )
        else:
            why = self._tell(event, draft)
        with self._store.write():
            if why is None:
                draft.put_on(self._shelf)
                self._cursors.drop(self._plugin, failure.event)
            else:
                failure = replace(failure, detail=why)
                self._cursors.put_aside(self._plugin, failure, now_ms=self._clock.wall_ms())
        return True


def _failures(cursor: Cursor, event: int) -> int:
    """How often the event has failed so far."""
    return cursor.failure.times if cursor.failure and cursor.failure.event == event else 0

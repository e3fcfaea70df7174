"""What a sender may claim now: where mail waits, a session is free, and the rate and quota allow.

Only reads, so that an idle sender writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from mailer.handover import Sessions
from mailer.pacing import Limit, learnt_rate
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.queue import Ask
from mailer.store.transports import TransportState

FOR_INTERACTIVE: Final = 2
"""Sessions that bulk mail leaves free, so that a slow provider can't keep interactive mail out."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What to ask the queue for, and else when to look again."""

    asks: Sequence[Ask] = ()
    next_slot_us: int | None = None
    """When a slot of the rate is free for mail that waits."""


def allowance(
    store: Store,
    sessions: Sequence[Sessions],
    settings: Settings,
    *,
    sender: int,
    takes_alone: bool,
    now_ms: int,
    now_us: int,
) -> Allowance:
    """Over all transports. Mail that must be sent alone is asked for when nothing else runs."""
    if not store.housekeeping.has_reserve():
        return Allowance()  # without room to record outcomes, nothing may be handed over
    if store.hold.is_on():
        return Allowance()
    if takes_alone:
        lonely = next((one for one in sessions if store.queue.has_alone(one.name)), None)
        if lonely is not None and _usable(store, lonely, now_us):
            if any(one.running() for one in sessions):
                return Allowance()
            return _asked(store, [lonely], settings, sender, now_us, alone=True)
    due = [one for one in sessions if store.queue.has_due(one.name, now_ms)]
    usable = [one for one in due if _usable(store, one, now_us)]
    return _asked(store, usable, settings, sender, now_us, alone=False)


def as_of_now(store: Store, ask: Ask, settings: Settings, now_ms: int, now_us: int) -> Ask | None:
    """The same in the transaction that claims: with what the 24-hour quota leaves.

    None when the transport has been paused meanwhile.
    """
    state = store.transports.get(ask.transport)
    if state is not None and state.blocked_until_us > now_us:
        return None
    left, max_24h = store.transports.left_today(ask.transport, now_ms)
    if left is None:
        return ask
    reserved = int((max_24h or 0) * settings.interactive_reserve)
    return replace(ask, quota=left, bulk_quota=left - reserved)


def rate_per_second(settings: Settings, state: TransportState | None, now_us: int) -> float | None:
    """The lowest of our setting, the provider's own limit and what it was found to take.

    None when there is neither setting nor limit.
    """
    providers = state.quota.max_per_second if state else None
    rates = [rate for rate in (settings.max_send_per_second, providers) if rate is not None]
    return learnt_rate(min(rates), state.lesson if state else None, now_us) if rates else None


def _usable(store: Store, sessions: Sessions, now_us: int) -> bool:
    """Whether a session is free and the provider lets us; opens sessions where they are wanted."""
    sessions.grow()
    state = store.transports.get(sessions.name)
    return sessions.idle > 0 and (state is None or state.blocked_until_us <= now_us)


def _asked(
    store: Store,
    sessions: Sequence[Sessions],
    settings: Settings,
    sender: int,
    now_us: int,
    *,
    alone: bool,
) -> Allowance:
    asks: list[Ask] = []
    next_slots: list[int] = []
    for one in sessions:
        state = store.transports.get(one.name)
        rate = rate_per_second(settings, state, now_us)
        limit = None if rate is None else Limit.per_second(rate)
        next_us = store.slots.next_at_us(one.name, limit, now_us)
        if next_us > now_us:
            next_slots.append(next_us)
        else:
            ask = _ask(one, limit, sender, alone=alone)
            trial = state is not None and state.throttled > 0
            asks.append(_for_one_mail(ask) if trial else ask)
    return Allowance(asks, min(next_slots, default=None))


def _ask(sessions: Sessions, limit: Limit | None, sender: int, *, alone: bool) -> Ask:
    idle, most = sessions.idle, sessions.transport.max_in_flight
    kept_free = FOR_INTERACTIVE if most > 2 * FOR_INTERACTIVE else 0
    return Ask(
        sender=sender,
        transport=sessions.name,
        queues=(sessions.name,),
        limit=limit,
        batch_size=sessions.transport.batch_size,
        calls=idle,
        calls_bulk=max(0, min(idle, most - kept_free - len(sessions.running()))),
        alone=alone,
    )


def _for_one_mail(ask: Ask) -> Ask:
    """To find out whether the provider takes mail again, one is enough."""
    return replace(ask, batch_size=1, calls=1, calls_bulk=1, trial=True)

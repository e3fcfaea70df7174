"""What a sender may claim now: where mail waits, a session is free, and the rate and quota allow.

Only reads, so that an idle sender writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from mailer.handover import Sessions
from mailer.limit_use import long_windows
from mailer.pacing import Limit, learnt_rate
from mailer.routing import route_of, takes_from
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.queue import Ask, Head
from mailer.store.transports import TransportState


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
    names = store.queue.names()
    working = {one.name for one in sessions}
    if settings.ways.with_choice or any(len(route_of(name)) > 1 for name in names):
        working -= _out_of_service(store, sessions, settings, now_ms)
    waiting = [source for one in sessions for source in _sources(one, names, working, settings)]
    if takes_alone:
        alone = [source for source in waiting if any(map(store.queue.has_alone, source.queues))]
        usable = [source for source in alone if _usable(store, source.sessions, now_us)]
        lonely = _asked(store, usable, settings, sender, now_us, alone=True)
        if lonely.asks:
            if any(one.running() for one in sessions):
                return Allowance()
            return replace(lonely, asks=lonely.asks[:1])
    heads = [(store.queue.head(source.queues, now_ms), source) for source in waiting]
    due = [replace(source, head=head) for head, source in heads if head is not None]
    usable = [source for source in due if _usable(store, source.sessions, now_us)]
    return _asked(store, usable, settings, sender, now_us, alone=False)


def as_of_now(
    store: Store, ask: Ask, settings: Settings, now_ms: int, now_us: int, *, begun: int = 0
) -> Ask | None:
    """The same in the transaction that claims: with what quota and limits leave.

    `begun` calls have been given to other asks of its transport. None when that has been paused
    meanwhile.
    """
    state = store.transports.get(ask.transport)
    if state is not None and state.blocked_until_us > now_us:
        return None
    share = settings.interactive_reserve
    uses = list(long_windows(store, settings, ask.ways, now_us))
    quotas = [use.left() for use in uses]
    bulk_quotas = [use.left(share) for use in uses]
    left, max_24h = store.transports.left_today(ask.transport, now_ms)
    if left is not None:
        quotas.append(left)
        bulk_quotas.append(left - int((max_24h or 0) * share))
    return replace(
        ask,
        calls=max(0, ask.calls - begun),
        calls_bulk=max(0, ask.calls_bulk - begun),
        quota=min(quotas, default=None),
        bulk_quota=min(bulk_quotas, default=None),
    )


def rate_per_second(
    settings: Settings, transport: str, state: TransportState | None, now_us: int
) -> float | None:
    """The lowest of our setting, the provider's own limit and what it was found to take.

    None when there is neither setting nor limit.
    """
    ours = settings.limits.per_second(transport) or settings.max_send_per_second
    providers = state.quota.max_per_second if state else None
    rates = [rate for rate in (ours, providers) if rate is not None]
    return learnt_rate(min(rates), state.lesson if state else None, now_us) if rates else None


@dataclass(frozen=True, slots=True)
class _Source:
    """Queues that a transport takes mail from under the same limits."""

    sessions: Sessions
    queues: tuple[str, ...]
    domain_way: str | None
    head: Head | None = None

    @property
    def ways(self) -> tuple[str, ...]:
        name = self.sessions.name
        return (name, self.domain_way) if self.domain_way else (name,)


def _out_of_service(
    store: Store, sessions: Sequence[Sessions], settings: Settings, now_ms: int
) -> Set[str]:
    """The transports whose mail goes by the next, where it has the choice."""
    out = store.transports.out_of_service(now_ms, settings.fail_over_after_s * 1000)
    passed_over = {name for name, _ in settings.ways.detours(out)}
    for one in sessions:
        if one.name in passed_over:
            one.grow()  # it may have no mail left, and is tried all the same
    return out


def _sources(
    one: Sessions, names: Iterable[str], working: Set[str], settings: Settings
) -> Iterator[_Source]:
    """The queues of all mail together, those of each domain by themselves."""
    queues: dict[str, tuple[str, ...]] = {}
    for name in names:
        domain = name.partition("@")[2]
        if takes_from(one.name, name, working):
            queues[domain] = (*queues.get(domain, ()), name)
    for domain, of_domain in queues.items():
        way = f"{one.name}@{domain}"
        yield _Source(one, of_domain, way if settings.limits.of(way) else None)


def _usable(store: Store, sessions: Sessions, now_us: int) -> bool:
    """Whether a session is free and the provider lets us; opens sessions where they are wanted."""
    sessions.grow()
    state = store.transports.get(sessions.name)
    return sessions.idle > 0 and (state is None or state.blocked_until_us <= now_us)


def _asked(
    store: Store,
    sources: Sequence[_Source],
    settings: Settings,
    sender: int,
    now_us: int,
    *,
    alone: bool,
) -> Allowance:
    """What is due first is asked for first: of what the rate leaves it has the first choice."""
    asks: list[Ask] = []
    next_slots: list[int] = []
    for source in sorted(sources, key=lambda source: source.head or Head(0, 0, 0)):
        state = store.transports.get(source.sessions.name)
        rates = dict(_rates(source, settings, state, now_us))
        next_us = _opens_us(store, source, rates, settings, now_us)
        if next_us > now_us:
            next_slots.append(next_us)
        else:
            ask = _ask(source, rates, sender, alone=alone)
            trial = state is not None and state.throttled > 0
            asks.append(_for_one_mail(ask) if trial else ask)
    asks.sort(key=lambda ask: not ask.trial)  # what others may take too, it would never get
    return Allowance(asks, min(next_slots, default=None))


def _rates(
    source: _Source, settings: Settings, state: TransportState | None, now_us: int
) -> Iterator[tuple[str, Limit]]:
    """The limits a second of the ways that have one."""
    transport, *domain_ways = source.ways
    rate = rate_per_second(settings, transport, state, now_us)
    if rate is not None:
        yield transport, Limit.per_second(rate)
    for way in domain_ways:
        if of_domain := settings.limits.per_second(way):
            yield way, Limit.per_second(of_domain)


def _opens_us(
    store: Store, source: _Source, rates: Mapping[str, Limit], settings: Settings, now_us: int
) -> int:
    """From when on all limits of its ways let the first of its mail go."""
    bulk = source.head is not None and source.head.lane_order > 0
    reserve = settings.interactive_reserve if bulk else 0.0
    uses = long_windows(store, settings, source.ways, now_us)
    opens_us = (use.opens_us(reserve) for use in uses)
    return max((store.slots.next_at_us(rates, now_us), *opens_us))


def _ask(source: _Source, rates: Mapping[str, Limit], sender: int, *, alone: bool) -> Ask:
    sessions = source.sessions
    # Paced mail is claimed as it goes, so that cancels and interactive mail find the most waiting.
    each = 1 if rates else sessions.calls_a_round
    return Ask(
        sender=sender,
        transport=sessions.name,
        queues=source.queues,
        rates=rates,
        batch_size=sessions.transport.batch_size,
        calls=sessions.idle * each,
        calls_bulk=sessions.idle_for_bulk * each,
        alone=alone,
        domain_way=source.domain_way,
    )


def _for_one_mail(ask: Ask) -> Ask:
    """To find out whether the provider takes mail again, one is enough."""
    return replace(ask, batch_size=1, calls=1, calls_bulk=1, trial=True)

"""How the transports stand and what providers wait for, as `mailer status` and `doctor` tell it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from mailer.allowance import rate_per_second
from mailer.api import times
from mailer.clock import Clock
from mailer.limit_use import limit_uses
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.transports import TransportState
from mailer.vocabulary import Condition


def transports(store: Store, settings: Settings, clock: Clock) -> list[dict[str, Any]]:
    """Every transport on record, as it goes into JSON."""
    now_us = clock.mono_us()
    limit_of = partial(rate_per_second, settings, now_us=now_us)
    out = store.transports.out_of_service(clock.wall_ms(), settings.fail_over_after_s * 1000)
    detours = sorted(settings.ways.detours(out))
    return [
        {
            "transport": state.transport,
            "chosen": state.transport in settings.ways.names,
            "condition": state.condition(now_us),
            "reason": state.blocked_reason,
            "for_s": max(0.0, (state.blocked_until_us - now_us) / 1_000_000),
            "halted_at": times.written_or_none(state.halted_at_ms),
            "last_second": store.slots.used_since(state.transport, now_us - 1_000_000),
            "limit_per_second": limit_of(state.transport, state),
            "goes_by": [taker for name, taker in detours if name == state.transport],
            "notice": state.notice,
            "quota": _quota(store, state, settings, clock.wall_ms()),
        }
        for state in store.transports.all()
    ]


def limits(store: Store, settings: Settings, clock: Clock) -> list[dict[str, Any]]:
    """Every limit of LIMITS and how far it is used, as it goes into JSON."""
    now_ms, now_us = clock.wall_ms(), clock.mono_us()

    def when(at_us: int) -> str | None:
        """None: now."""
        return times.written(now_ms + (at_us - now_us) // 1000) if at_us > now_us else None

    return [
        {
            "way": use.way,
            "limit": use.limit,
            "most": use.most,
            "used": use.used,
            "waiting": use.waiting,
            "all_wait_until": when(use.opens_us),
            "bulk_waits_until": when(use.opens_for_bulk_us),
        }
        for use in limit_uses(store, settings, now_us)
    ]


def limit_line(limit: dict[str, Any]) -> str:
    """How far a limit is used, and what waits for it."""
    use = f"{limit['way']} {limit['limit']}: {limit['used']:,} of {limit['most']:,} used"
    if limit["all_wait_until"]:
        return f"{use}, mail waits until {limit['all_wait_until']}"
    if limit["bulk_waits_until"]:
        return f"{use}, bulk mail waits until {limit['bulk_waits_until']}"
    return use


def approvals(store: Store, settings: Settings, clock: Clock) -> list[dict[str, Any]]:
    """What providers ask for and the settings don't allow yet, with the line that would."""
    allowed = {variable.name: _several(value) for variable, value in settings.listed()}
    return [
        {
            "setting": asked.setting,
            "value": asked.value,
            "asked_at": times.written(asked.asked_at_ms),
            "line": f"{asked.setting}={','.join([*allowed.get(asked.setting, ()), asked.value])}",
        }
        for asked in store.approvals.all(clock.wall_ms())
        if asked.value not in allowed.get(asked.setting, ())
    ]


def lines(transport: dict[str, Any]) -> Iterator[str]:
    """What people should know of one transport; nothing when all is well."""
    yield from obstacles(transport)
    if transport["notice"]:
        yield f"{transport['transport']}: {transport['notice']}"


def obstacles(transport: dict[str, Any]) -> Iterator[str]:
    """Why mail waits for one transport."""
    name, reason = transport["transport"], transport["reason"]
    others = f"; mail that may goes by {' and '.join(transport['goes_by'])}"
    detour = others if transport["goes_by"] else ""
    match transport["condition"]:
        case Condition.HALTED:
            yield f"{name} is halted since {transport['halted_at']}: {reason}{detour}"
        case Condition.PAUSED:
            yield f"{name} is paused for {transport['for_s']:.0f} s: {reason}{detour}"
        case Condition.UNREACHABLE:
            yield f"{name} can't be reached: {reason}{detour}"
        case Condition.WORKING if detour:
            yield f"{name} is tried with one mail: {reason}{detour}"
    quota = transport["quota"]
    if quota and quota["bulk_waits"]:
        until = quota["bulk_waits_until"]
        when = f"until {until}" if until else "until what others sent by this account is a day old"
        left = f"{quota['left']:,} left for interactive mail" if quota["left"] else "nothing left"
        yield (
            f"{name} has used up its quota of {quota['max_24h']:,} in 24 hours: bulk mail waits"
            f" {when}; {left}"
        )


def _quota(
    store: Store, state: TransportState, settings: Settings, now_ms: int
) -> dict[str, Any] | None:
    left, max_24h = store.transports.left_today(state.transport, now_ms)
    if left is None or max_24h is None:
        return None
    reserved = int(max_24h * settings.interactive_reserve)
    until_ms = store.transports.bulk_waits_until_ms(state.transport, reserved, now_ms)
    return {
        "max_24h": max_24h,
        "left": left,
        "reserved_for_interactive": reserved,
        "bulk_waits": left <= reserved,
        "bulk_waits_until": times.written_or_none(until_ms),
    }


def _several(value: object) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()

"""Transports as all processes see them: paused by the provider, its limits, what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from mailer.hookspecs import Quota
from mailer.pacing import Lesson
from mailer.store.connection import Database
from mailer.store.log import append_own
from mailer.vocabulary import Condition, EventType

DAY_MINUTES: Final = 24 * 60

_IN_FLIGHT: Final = """
SELECT (SELECT count(*) FROM mails INDEXED BY mails_sender
        WHERE sender IS NOT NULL AND via = ?)
    + (SELECT count(*) FROM mails INDEXED BY mails_settle
        WHERE settle_at_ms IS NOT NULL AND via = ?)
"""


_STATE: Final = """
SELECT transport, reports_events, blocked_until_us, blocked_reason, throttled, max_per_second,
    max_24h, sent_24h, notice, quota_at_ms, too_fast_per_second, too_fast_at_us, halted_at_ms,
    troubled_at_ms
FROM transports
"""

_HALTED_SINCE: Final = "halted_at_ms = iif(? IS NULL, NULL, coalesce(halted_at_ms, ?))"

_TROUBLED: Final = "(throttled > 0 OR blocked_reason <> '') AND troubled_at_ms IS NULL"

_FREES: Final = """
SELECT minute FROM (
    SELECT minute, sum(recipients) OVER (ORDER BY minute) AS left_window
    FROM sends WHERE transport = :transport AND minute >= :since
)
WHERE left_window >= :wanted ORDER BY minute LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class TransportState:
    """What is known of a transport. None: it has no such limit, or has not said."""

    transport: str
    reports_events: bool
    blocked_until_us: int
    blocked_reason: str
    throttled: int
    """How many times in a row it took no mail; while it is not 0, one mail at a time is tried."""
    quota: Quota
    quota_at_ms: int | None
    lesson: Lesson | None
    halted_at_ms: int | None
    """Since when somebody has to mend what `blocked_reason` says; None: it is not halted."""
    troubled_at_ms: int | None
    """Since when it has taken no mail though that was tried, noted by a duty."""
    notice: str
    """What else its provider lets people know."""

    def out_of_service(self, now_ms: int, trouble_ms: int) -> bool:
        """Whether mail that has the choice goes by another: halted, or so long in trouble."""
        since_ms = self.troubled_at_ms
        in_trouble = since_ms is not None and now_ms - since_ms >= trouble_ms
        return self.halted_at_ms is not None or in_trouble

    def condition(self, now_us: int) -> Condition:
        """In a word."""
        if self.halted_at_ms is not None:
            return Condition.HALTED
        if self.blocked_until_us > now_us:
            return Condition.PAUSED
        out_of_reach = self.blocked_reason and not self.throttled
        return Condition.UNREACHABLE if out_of_reach else Condition.WORKING


class Transports:
    """Shared state of the ways out."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, transport: str) -> TransportState | None:
        row = self._db.one(f"{_STATE} WHERE transport = ?", (transport,))
        return _state(*row) if row else None

    def all(self) -> list[TransportState]:
        return [_state(*row) for row in self._db.all(f"{_STATE} ORDER BY transport")]

    def troubled(self, now_us: int) -> list[TransportState]:
        """Those that do not take mail now."""
        return [s for s in self.all() if s.condition(now_us) is not Condition.WORKING]

    def out_of_service(self, now_ms: int, trouble_ms: int) -> frozenset[str]:
        """The names of those that are."""
        states = self.all()
        return frozenset(s.transport for s in states if s.out_of_service(now_ms, trouble_ms))

    def trouble_to_note(self) -> bool:
        """Whether `note_trouble` would find any: a read, for the idle."""
        return self._db.one(f"SELECT 1 FROM transports WHERE {_TROUBLED} LIMIT 1") is not None

    def note_trouble(self, now_ms: int) -> None:
        """Put on record since when they are in trouble."""
        self._db.run(f"UPDATE transports SET troubled_at_ms = ? WHERE {_TROUBLED}", (now_ms,))

    def announce(self, transport: str, sentence: str, now_ms: int) -> None:
        """Tell something of a transport in the event log."""
        append_own(self._db, [(EventType.OTHER, now_ms, None, None, transport, sentence)])

    def register(self, transport: str, *, reports_events: bool) -> None:
        self._db.run(
            "INSERT INTO transports (transport, reports_events) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET reports_events = excluded.reports_events",
            (transport, reports_events),
        )

    def keep_quota(self, transport: str, quota: Quota, now_ms: int) -> None:
        """Limits that are none (SES says -1 for no daily one) are not kept."""
        rate = quota.max_per_second if (quota.max_per_second or 0) > 0 else None
        daily = quota.max_24h if (quota.max_24h or 0) >= 0 else None
        self._db.run(
            "UPDATE transports SET max_per_second = ?, max_24h = ?, sent_24h = ?, quota_at_ms = ?,"
            " notice = ? WHERE transport = ?",
            (rate, daily, quota.sent_24h, now_ms, quota.notice, transport),
        )

    def end_halt(self, transport: str) -> None:
        """The provider answers. If it was a mail's outcome that halted, one is tried at once."""
        self._db.run(
            "UPDATE transports SET blocked_until_us = 0,"
            " blocked_reason = iif(throttled, blocked_reason, ''),"
            " halted_at_ms = iif(throttled, halted_at_ms, NULL),"
            " troubled_at_ms = iif(throttled, troubled_at_ms, NULL)"
            " WHERE transport = ? AND halted_at_ms IS NOT NULL",
            (transport,),
        )

    def note_reached(self, transport: str) -> None:
        """A sender has connected. That ends what `note_unreachable` said, but for a halt."""
        self._db.run(
            "UPDATE transports SET blocked_reason = '', troubled_at_ms = NULL"
            " WHERE transport = ? AND throttled = 0 AND halted_at_ms IS NULL",
            (transport,),
        )

    def block(
        self, transport: str, until_us: int, reason: str, *, halted_at_ms: int | None = None
    ) -> None:
        """No sender claims for it until then, and one mail alone after that.

        With `halted_at_ms`, or an earlier instant on record, it is halted.
        """
        self._db.run(
            "UPDATE transports SET blocked_until_us = ?, blocked_reason = ?,"
            f" throttled = throttled + 1, {_HALTED_SINCE} WHERE transport = ?",
            (until_us, reason, halted_at_ms, halted_at_ms, transport),
        )

    def await_trial(self, transport: str, until_us: int) -> None:
        """One mail is being tried: until its answer has come, or that instant, no other is."""
        self._db.run(
            "UPDATE transports SET blocked_until_us = ? WHERE transport = ?", (until_us, transport)
        )

    def learn_rate(self, transport: str, lesson: Lesson) -> None:
        """The provider throttles at less than it says."""
        self._db.run(
            "UPDATE transports SET too_fast_per_second = ?, too_fast_at_us = ? WHERE transport = ?",
            (lesson.rate, lesson.at_us, transport),
        )

    def note_unreachable(
        self, transport: str, reason: str, *, halted_at_ms: int | None = None
    ) -> None:
        """A sender can't connect, and tries again by itself; `halted_at_ms` as in `block`."""
        self._db.run(
            f"UPDATE transports SET blocked_reason = ?, {_HALTED_SINCE} WHERE transport = ?",
            (reason, halted_at_ms, halted_at_ms, transport),
        )

    def unblock(self, transport: str) -> None:
        """It took mail again."""
        self._db.run(
            "UPDATE transports SET throttled = 0, blocked_reason = '', blocked_until_us = 0,"
            " halted_at_ms = NULL, troubled_at_ms = NULL WHERE transport = ?",
            (transport,),
        )

    def forget_blocks(self) -> None:
        """After a boot: the instants on record belong to another clock."""
        self._db.run(
            "UPDATE transports SET blocked_until_us = 0, throttled = 0, troubled_at_ms = NULL,"
            " too_fast_per_second = NULL, too_fast_at_us = NULL"
        )

    def sent_since(self, minute: int, transport: str | None = None) -> int:
        """Recipients handed over since a minute of wall time, over one transport or all."""
        row = self._db.one(
            "SELECT coalesce(sum(recipients), 0) FROM sends"
            " WHERE transport = :transport AND minute >= :minute"
            if transport
            else "SELECT coalesce(sum(recipients), 0) FROM sends WHERE minute >= :minute",
            {"transport": transport, "minute": minute},
        )
        return int(row[0]) if row else 0

    def left_today(self, transport: str, now_ms: int) -> tuple[int | None, int | None]:
        """What the provider's rolling 24-hour quota leaves, and the quota; None without one.

        The provider's own count includes what others sent through the same account; since then
        ours is added. Of the two counts the higher holds. What is in flight, or may have been
        taken, counts as sent.
        """
        state = self.get(transport)
        if state is None or state.quota.max_24h is None:
            return None, None
        ours = self.sent_since(now_ms // 60_000 - DAY_MINUTES, transport)
        theirs = 0
        if state.quota.sent_24h is not None and state.quota_at_ms is not None:
            theirs = state.quota.sent_24h + self.sent_since(state.quota_at_ms // 60_000, transport)
        (in_flight,) = self._db.one(_IN_FLIGHT, (transport, transport)) or (0,)
        left = state.quota.max_24h - max(ours, theirs) - in_flight
        return max(0, left), state.quota.max_24h

    def bulk_waits_until_ms(self, transport: str, reserved: int, now_ms: int) -> int | None:
        """When the quota leaves more than `reserved` again, as our own sends leave its window.

        None: bulk mail need not wait for it, or what others sent is too much of it to tell.
        """
        left, _ = self.left_today(transport, now_ms)
        if left is None or left > reserved:
            return None
        wanted = reserved - left + 1
        since = now_ms // 60_000 - DAY_MINUTES
        row = self._db.one(_FREES, {"transport": transport, "since": since, "wanted": wanted})
        return (int(row[0]) + DAY_MINUTES + 1) * 60_000 if row else None

    def forget_sends(self, before_minute: int) -> None:
        self._db.run("DELETE FROM sends WHERE minute < ?", (before_minute,))


def _state(
    transport: str,
    reports_events: int,
    blocked_until_us: int,
    blocked_reason: str,
    throttled: int,
    *limits: Any,
) -> TransportState:
    *quota, notice, quota_at_ms, too_fast, too_fast_at_us, halted_at_ms, troubled_at_ms = limits
    return TransportState(
        transport=transport,
        reports_events=bool(reports_events),
        blocked_until_us=blocked_until_us,
        blocked_reason=blocked_reason,
        throttled=throttled,
        quota=Quota(*quota),
        quota_at_ms=quota_at_ms,
        lesson=None if too_fast is None else Lesson(too_fast, too_fast_at_us),
        halted_at_ms=halted_at_ms,
        troubled_at_ms=troubled_at_ms,
        notice=notice,
    )

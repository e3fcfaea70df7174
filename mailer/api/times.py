"""Times as callers write them and as the API answers them.

Two forms are taken: the reference's `2024-01-01 09:00:00` in the server's zone, and RFC 3339 with
an offset or `Z`. A local time that a clock change skips means the instant that many minutes after
the change; one that comes twice means the first. Answers always carry an offset.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from mailer.errors import MailerError

MAX_AHEAD: Final = timedelta(days=366)
ACCEPTED: Final = (
    "accepted: 2024-01-01 09:00:00 (the server's zone), or RFC 3339 as 2024-01-01T09:00:00Z or"
    " 2024-01-01T09:00:00+01:00; at most a year ahead"
)

_FORM: Final = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})(?P<sep>[Tt ])(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]{1,9}))?"
    r"(?P<offset>[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
)


class TimeError(MailerError):
    """Not a time that is accepted; `code` says which kind of fault this is."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(f"{message}; {ACCEPTED}")


def parse(text: str, *, now_ms: int, zone: tzinfo | None = None) -> int:
    """Milliseconds since 1970. `zone` is the server's; None: the machine's. Raises TimeError."""
    match = _FORM.fullmatch(text)
    reference_form = match and match["sep"] == " " and not match["fraction"]
    if match is None or not (match["offset"] or reference_form):
        raise TimeError("time_invalid", "not a time in an accepted form")
    try:
        moment = datetime.strptime(  # noqa: DTZ007 - the zone follows
            f"{match['date']} {match['time']}", "%Y-%m-%d %H:%M:%S"
        )
        fraction_ms = int(((match["fraction"] or "") + "000")[:3])
        at = _placed(moment, match["offset"], zone)
        at_ms = round(at.timestamp()) * 1000 + fraction_ms
    except (ValueError, OverflowError):
        raise TimeError("time_impossible", "there is no such time") from None
    if at_ms > now_ms + MAX_AHEAD // timedelta(milliseconds=1):
        raise TimeError("time_too_far", "more than a year ahead")
    return at_ms


def written(at_ms: int, zone: tzinfo | None = None) -> str:
    """RFC 3339 in the server's zone, with its offset and milliseconds."""
    at = datetime.fromtimestamp(at_ms // 1000, zone).replace(microsecond=at_ms % 1000 * 1000)
    return at.astimezone(zone).isoformat(timespec="milliseconds")


def written_or_none(at_ms: int | None) -> str | None:
    return None if at_ms is None else written(at_ms)


def _placed(moment: datetime, offset: str | None, zone: tzinfo | None) -> datetime:
    if offset is None:
        return moment.replace(tzinfo=zone) if zone else moment.astimezone()
    if offset in "Zz":
        return moment.replace(tzinfo=UTC)
    sign = -1 if offset[0] == "-" else 1
    hours, minutes = int(offset[1:3]), int(offset[4:6])
    return moment.replace(tzinfo=timezone(sign * timedelta(hours=hours, minutes=minutes)))

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from mailer.api import times

BERLIN = ZoneInfo("Europe/Berlin")
NOW_MS = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1000


def utc(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-01-02 09:00:00", "2024-01-02 08:00:00"),
        ("2024-07-02 09:00:00", "2024-07-02 07:00:00"),
        ("2024-01-02T09:00:00Z", "2024-01-02 09:00:00"),
        ("2024-01-02t09:00:00z", "2024-01-02 09:00:00"),
        ("2024-01-02 09:00:00+05:30", "2024-01-02 03:30:00"),
        ("2024-01-02T09:00:00-12:00", "2024-01-02 21:00:00"),
        ("2024-01-02T09:00:00.25Z", "2024-01-02 09:00:00.250"),
        ("2024-01-02T09:00:00.123456789Z", "2024-01-02 09:00:00.123"),
        ("2024-02-29 12:00:00", "2024-02-29 11:00:00"),
        ("1999-01-01 00:00:00", "1998-12-31 23:00:00"),
        # Skipped by the change to summer time: as long after the change as it says.
        ("2024-03-31 02:30:00", "2024-03-31 01:30:00"),
        # Comes twice at the change back: the first, in summer time.
        ("2024-10-27 02:30:00", "2024-10-27 00:30:00"),
    ],
)
def test_both_forms_name_an_instant(text: str, instant: str) -> None:
    assert times.parse(text, now_ms=NOW_MS, zone=BERLIN) == utc(instant)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("tomorrow", "time_invalid"),
        ("2024-01-02", "time_invalid"),
        ("2024-01-02T09:00:00", "time_invalid"),
        ("2024-01-02 09:00", "time_invalid"),
        ("2024-1-2 9:00:00", "time_invalid"),
        (" 2024-01-02 09:00:00", "time_invalid"),
        ("2024-01-02 09:00:00\n", "time_invalid"),
        ("2024-01-02  09:00:00", "time_invalid"),
        ("02.01.2024 09:00:00", "time_invalid"),
        ("1704186000", "time_invalid"),
        ("٢٠٢٤-01-02 09:00:00", "time_invalid"),
        ("2024-01-02T09:00:00+24:00", "time_invalid"),
        ("2024-01-02T09:00:00+0100", "time_invalid"),
        ("2024-01-02T09:00:00.Z", "time_invalid"),
        ("2024-02-30 09:00:00", "time_impossible"),
        ("2023-02-29 09:00:00", "time_impossible"),
        ("2024-13-01 09:00:00", "time_impossible"),
        ("2024-01-02 24:00:00", "time_impossible"),
        ("2024-01-02 09:60:00", "time_impossible"),
        ("0000-01-01 00:00:00", "time_impossible"),
        ("2025-01-03 00:00:00", "time_too_far"),
        ("9999-12-31T23:59:59Z", "time_too_far"),
    ],
)
def test_anything_else_is_refused_with_the_accepted_forms(text: str, code: str) -> None:
    with pytest.raises(times.TimeError, match="accepted: 2024-01-01 09:00:00") as refused:
        times.parse(text, now_ms=NOW_MS, zone=BERLIN)

    assert refused.value.code == code


def test_answers_carry_an_offset_and_name_the_same_instant() -> None:
    written = times.written(NOW_MS + 5, BERLIN)

    assert written == "2024-01-01T01:00:00.005+01:00"
    assert times.parse(written, now_ms=NOW_MS) == NOW_MS + 5

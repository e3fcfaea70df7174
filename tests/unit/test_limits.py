"""What LIMITS says: its forms, its faults by entry, and how a limit grows that warms up."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

import pytest

from mailer import plugins
from mailer.errors import SettingsError
from mailer.limits import DAY_US, Cap, parse_limits
from mailer.settings import load


def test_ways_and_limits_as_they_are_written() -> None:
    limits = parse_limits("ses = 100/s,50000/day; ses@gmail.com=20/s ;smtp=5/s, 200/h, 3/10min;")
    assert limits.ways == {
        "ses": (Cap(100, 1, "100/s"), Cap(50000, 86400, "50000/day")),
        "ses@gmail.com": (Cap(20, 1, "20/s"),),
        "smtp": (Cap(5, 1, "5/s"), Cap(200, 3600, "200/h"), Cap(3, 600, "3/10min")),
    }
    assert limits.domains == {"gmail.com"}
    assert str(limits) == "ses=100/s, 50000/day; ses@gmail.com=20/s; smtp=5/s, 200/h, 3/10min"
    assert parse_limits(str(limits)) == limits
    assert limits.per_second("ses") == 100
    assert limits.per_second("maildir") is None


def test_domains_are_compared_as_those_of_recipients_are() -> None:
    assert parse_limits("ses@GMail.COM=1/s; ses@bücher.example.com=1/s").domains == {
        "gmail.com",
        "xn--bcher-kva.example.com",
    }


def test_only_mail_to_a_limited_domain_waits_apart() -> None:
    limits = parse_limits("ses@gmail.com=20/s")
    assert limits.own_queue("ses", "ann@gmail.com") == "ses@gmail.com"
    assert limits.own_queue("smtp", "ann@gmail.com") == "smtp@gmail.com"
    assert limits.own_queue("ses", "ann@mail.gmail.com") == "ses"
    assert limits.own_queue("ses@gmail.com", "ann@gmail.com") == "ses@gmail.com"


BAD = (
    ("ses", "`ses` is not transport=limits"),
    ("ses=100/s; smtp 5/s", "`smtp 5/s` is not transport=limits"),
    ("=5/s", "`=5/s` is not transport=limits"),
    ("ses@a@b=5/s", "is not transport=limits"),
    ("ses=", "`ses=`: `` is no limit"),
    ("ses=5/s,", "`` is no limit"),
    ("ses=5", "`5` is no limit"),
    ("ses=5/sec", "`5/sec` is no limit"),
    ("ses=0.5/s", "`0.5/s` is no limit"),
    ("ses=\u0665/s", "is no limit"),
    ("ses=0/s", "`0/s` is not 1 or more"),
    ("ses=5/0s", "`5/0s` is not 1 or more"),
    ("ses=5/32day", "1 s to 31 days"),
    ("ses=5/s, 6/1s", "two limits for windows of the same length"),
    ("ses=5/s; ses=6/h", "ses has two entries"),
    ("ses@gmail.com=5/s; ses@GMAIL.com=6/h", "ses@gmail.com has two entries"),
    ("ses@gmail=5/s", "gmail is no domain mail goes to"),
    ("ses@-.com=5/s", "-.com is no domain mail goes to"),
    ("ses=5..10/day", "half a warm-up"),
    ("ses=10/day over 3d from 2030-01-01", "half a warm-up"),
    ("ses=10..5/day over 3d from 2030-01-01", "does not grow"),
    ("ses=0..5/day over 3d from 2030-01-01", "does not grow"),
    ("ses=1..5/day over 0d from 2030-01-01", "does not grow"),
    ("ses=1..5/day over 3d from 2030-02-30", "there is no day 2030-02-30"),
    ("ses=1..5/s over 3d from 2030-01-01", "a limit a second does not warm up"),
)


@pytest.mark.parametrize(("value", "problem"), BAD)
def test_what_is_wrong_names_the_entry(value: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"LIMITS": value})
    (fault,) = caught.value.faults
    assert fault.name == "LIMITS"
    assert problem in fault.problem
    assert "ses=100/s, 50000/day" in fault.accepted


def test_limits_of_a_transport_that_is_not_there_stop_the_start() -> None:
    manager = plugins.load()
    settings = plugins.settings(manager, {"LIMITS": "maildir=5/s; pigeon@x.org=1/h"})
    with pytest.raises(SettingsError) as caught:
        plugins.transports(manager, settings)
    (fault,) = caught.value.faults
    assert "`pigeon@x.org`: the transport pigeon is not configured" in fault.problem
    assert "maildir" in fault.accepted


def test_a_limit_that_warms_up_grows_by_the_same_factor_each_day() -> None:
    (cap,) = parse_limits("ses=50..50000/day over 30d from 2030-01-31").of("ses")
    begins = datetime(2030, 1, 31).astimezone()
    begins_us = int(begins.timestamp()) * 1_000_000
    by_day = [cap.at(begins_us + day * DAY_US) for day in range(-1, 33)]
    assert by_day[:2] == [50, 50]
    assert by_day[11] == 500
    assert by_day[21] == 5000
    assert by_day[-3:] == [50000] * 3
    assert all(later / earlier <= 1.28 for earlier, later in pairwise(by_day))
    assert cap.at(begins_us + DAY_US - 1) == 50

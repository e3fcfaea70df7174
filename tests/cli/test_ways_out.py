"""What `status` and `doctor` say of transports and of providers that wait to be believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailer import plugins
from mailer.commands import checks, ways_out
from mailer.commands.status import look
from mailer.hookspecs import Check, Quota
from mailer.settings import Settings
from mailer.store.migrate import migrate
from mailer.store.outcomes import rules_of
from mailer.vocabulary import CheckResult
from tests.cli.test_doctor import HandClock
from tests.store.world import World, people

ARN = "arn:aws:sns:eu-central-1:123456789012:ses-events"


@pytest.fixture
def world(tmp_path: Path) -> World:
    migrate(tmp_path / "mailer.db")
    world = World(tmp_path / "mailer.db")
    with world.store.write():
        world.store.transports.register("post", reports_events=False)
    return world


def settings(world: World, **environ: str) -> Settings:
    usual = {"DATABASE_URL": f"sqlite://{world.path}", "TRANSPORT": "post"}
    return plugins.settings(plugins.load(), usual | environ)


def said(world: World) -> list[str]:
    seen = look(world.store, settings(world), plugins.load(), HandClock(world))
    (post,) = seen["transports"]
    return list(ways_out.lines(post))


def said_of(transport: str, world: World, way: str) -> str:
    seen = look(world.store, settings(world, TRANSPORT=way), plugins.load(), HandClock(world))
    (found,) = (one for one in seen["transports"] if one["transport"] == transport)
    return " ".join(ways_out.lines(found))


def doctored(world: World, name: str, **environ: str) -> list[Check]:
    found = checks.local(settings(world, **environ), HandClock(world))
    return [check for check in found if check.name == name]


def test_a_transport_that_is_well_has_nothing_to_say(world: World) -> None:
    assert said(world) == []
    assert doctored(world, "transport") == []


def test_a_halt_is_a_failure_with_its_reason_and_since_when(world: World) -> None:
    with world.store.write():
        world.store.transports.block("post", 0, "verify it", halted_at_ms=world.now_ms)
    (line,) = said(world)
    assert line.startswith("post is halted since 20")
    assert line.endswith(": verify it")
    (check,) = doctored(world, "transport")
    assert (check.result, check.finding) == (CheckResult.FAILURE, line)


def test_a_pause_and_a_provider_out_of_reach(world: World) -> None:
    with world.store.write():
        world.store.transports.note_unreachable("post", "no route")
    assert said(world) == ["post can't be reached: no route"]
    with world.store.write():
        world.store.transports.block("post", world.now_us + 5_000_000, "slow down")
    assert said(world) == ["post is paused for 5 s: slow down"]
    assert [check.result for check in doctored(world, "transport")] == [CheckResult.WARNING]


@pytest.mark.parametrize("trouble", ["halt", "no connection"])
def test_a_detour_is_told_with_the_transport_that_takes_over(world: World, trouble: str) -> None:
    transports = world.store.transports
    with world.store.write():
        transports.register("other", reports_events=False)
        if trouble == "halt":
            transports.block("post", 0, "verify it", halted_at_ms=world.now_ms)
        else:
            transports.note_unreachable("post", "no route")
            transports.note_trouble(world.now_ms - 300_000)
    both = settings(world, TRANSPORT="post,other")
    other, post = look(world.store, both, plugins.load(), HandClock(world))["transports"]
    assert (post["goes_by"], other["goes_by"]) == (["other"], [])
    (line,) = ways_out.lines(post)
    assert line.endswith("; mail that may goes by other")
    assert "goes by" not in said_of("post", world, "post")
    assert "goes by" not in said_of("post", world, "other,post")


def test_a_quota_that_is_used_up_tells_until_when_and_what_is_reserved(world: World) -> None:
    with world.store.write():
        world.store.transports.keep_quota("post", Quota(max_24h=20), world.now_ms)
    world.accept(*people(19))
    world.record(world.claim())
    (line,) = said(world)
    assert "used up its quota of 20 in 24 hours: bulk mail waits until 20" in line
    assert line.endswith("; 1 left for interactive mail")
    with world.store.write():
        world.store.transports.keep_quota("post", Quota(max_24h=20, sent_24h=20), world.now_ms)
    assert said(world)[0].endswith("; nothing left")


def test_the_provider_s_notice_is_passed_on(world: World) -> None:
    with world.store.write():
        world.store.transports.keep_quota("post", Quota(notice="in the sandbox"), world.now_ms)
    assert said(world) == ["post: in the sandbox"]


def test_what_asks_to_be_believed_comes_with_the_line_that_allows_it(world: World) -> None:
    with world.store.write():
        world.store.approvals.ask("SNS_TOPIC_ARNS", ARN, world.now_ms)
    (asked,) = look(world.store, settings(world), plugins.load(), HandClock(world))["approvals"]
    assert asked["line"] == f"SNS_TOPIC_ARNS={ARN}"
    (check,) = doctored(world, "approval", SNS_TOPIC_ARNS=f"{ARN}-2")
    assert f"set SNS_TOPIC_ARNS={ARN}-2,{ARN} and restart" in check.advice
    assert doctored(world, "approval", SNS_TOPIC_ARNS=ARN) == []


def test_each_limit_is_told_with_its_use_and_until_when_mail_waits(world: World) -> None:
    limits = {"LIMITS": "post=100/s, 20/h; post@example.org=5/min", "TRANSPORT": "maildir"}

    def seen() -> dict[str, Any]:
        return look(world.store, settings(world, **limits), plugins.load(), HandClock(world))

    assert [ways_out.limit_line(limit) for limit in seen()["limits"]] == [
        "post 100/s: 0 of 100 used",
        "post 20/h: 0 of 20 used",
        "post@example.org 5/min: 0 of 5 used",
    ]
    world.rules = rules_of(settings(world, **limits))
    world.store = world.twin()
    world.accept(*people(7), "ann@example.com")
    world.claim(queues=("post@example.org",), domain_way="post@example.org", calls=5)
    told = seen()
    assert [(limit["used"], limit["waiting"]) for limit in told["limits"]] == [
        (5, 8),
        (5, 8),
        (5, 7),
    ]
    *_, full = map(ways_out.limit_line, told["limits"])
    assert full.startswith("post@example.org 5/min: 5 of 5 used, mail waits until 20")
    assert [(lane["transport"], lane["domain"]) for lane in told["queue"]["lanes"]] == [
        ("post", None),
        ("post", "example.org"),
    ]
    found = doctored(world, "limit", **limits)
    assert [check.result for check in found] == [CheckResult.OK] * 2 + [CheckResult.WARNING]
    assert found[-1].finding == full

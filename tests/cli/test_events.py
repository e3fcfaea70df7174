"""`mailer events`: the log for people and scripts, and the dead letters of event plugins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from mailer.hookspecs import ProviderEvent
from mailer.store import Store
from mailer.store.cursors import Failure
from mailer.store.outcomes import Rules
from mailer.vocabulary import EventType, UncertainPolicy
from tests.cli.test_commands import post
from tests.installation import Installation
from tests.waiting import until


@contextmanager
def written(installation: Installation) -> Iterator[Store]:
    """The installation's store, in a transaction."""
    path = installation.directory / "mailer.db"
    with closing(Store(path, Rules(0, 0, UncertainPolicy.RESEND))) as store, store.write():
        yield store


def happen(installation: Installation, *details: str, kind: EventType = EventType.OTHER) -> None:
    with written(installation) as store:
        for detail in details:
            store.events.learn([ProviderEvent(kind, 0, "test", "", detail=detail)], now_ms=0)


def details(installation: Installation, *options: str) -> list[str]:
    return [event["detail"] for event in listed(installation, *options)]


def listed(installation: Installation, *options: str) -> list[Any]:
    done = installation.mailer("events", "--json", *options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def log(installation: Installation) -> Installation:
    installation.mailer("migrate")
    happen(installation, *map(str, range(60)))
    happen(installation, "bad", kind=EventType.REJECT)
    return installation


def test_the_newest_are_shown(log: Installation) -> None:
    newest = listed(log)
    assert [event["detail"] for event in newest] == [*map(str, range(11, 60)), "bad"]
    assert details(log, "--limit", "2", "--type", "other") == ["58", "59"]
    assert details(log, "--topic", "none") == []
    assert len(details(log, "--after", "0")) == 61
    assert details(log, "--after", newest[-2]["id"]) == ["bad"]


def test_what_others_wrote_does_nothing_to_a_terminal(log: Installation) -> None:
    happen(log, "\x1b[31m[red]\r", kind=EventType.REJECT)
    shown = log.mailer("events", "--limit", "1").stdout
    assert "reject" in shown
    assert "[31m[red]" in shown
    assert "\x1b" not in shown


def test_follow_goes_on(installation: Installation) -> None:
    installation.run()
    following = installation.start("events", "--follow", "--json")
    answer = post(installation, topic_id="followed")
    (request_id,) = answer["messages"][0]["request_ids"]
    until(lambda: '"type": "sent"' in installation.log)
    assert request_id in installation.log
    following.send_signal(2)
    assert following.wait(timeout=10) == 0


@pytest.fixture
def dead(log: Installation) -> Installation:
    with written(log) as store:
        store.cursors.register(["webhook"])
        for event in (1, 2, 3):
            store.cursors.put_aside("webhook", Failure(event, 10, "RuntimeError: x"), now_ms=0)
    return log


def test_dead_letters_are_shown_told_again_and_skipped(dead: Installation) -> None:
    first, second, _ = dead.json("events", "dead")
    assert (first["plugin"], first["failures"], first["retry"]) == ("webhook", 10, False)
    assert first["event"]["detail"] == "0"
    assert "RuntimeError: x" in dead.mailer("events", "dead").stdout
    again = dead.mailer("events", "retry", "webhook", first["event_id"])
    assert "1 to be told again" in again.stdout
    assert "1 forgotten" in dead.mailer("events", "skip", "webhook", second["event_id"]).stdout
    assert [letter["retry"] for letter in dead.json("events", "dead")] == [True, False]
    assert "webhook: 0 events behind, 2 events put aside" in dead.mailer("status").stdout
    assert "2 to be told again" in dead.mailer("events", "retry", "webhook", "--all").stdout
    assert "2 forgotten" in dead.mailer("events", "skip", "webhook", "--all").stdout
    assert dead.json("events", "dead") == []


def test_wrong_dead_letters_are_named_and_nothing_is_changed(dead: Installation) -> None:
    before = dead.json("events", "dead")
    known = before[0]["event_id"]
    unknown = dead.mailer("events", "skip", "webhook", known, "99-0")
    assert unknown.returncode == 1
    assert "no dead letter 99-0 of webhook; nothing was changed" in unknown.stderr
    for wrong in ((), (known, "--all"), ("x",)):
        assert dead.mailer("events", "skip", "webhook", *wrong).returncode == 2
    assert dead.json("events", "dead") == before


def test_status_tells_what_a_plugin_fails_at(dead: Installation) -> None:
    with written(dead) as store:
        end = store.log.end()
    happen(dead, "next")
    with written(dead) as store:
        failure = Failure(end + 1, 3, "RuntimeError: no")
        store.cursors.fail("webhook", failure, retry_at_ms=0)
    (plugin,) = dead.json("status")["event_plugins"]
    assert (plugin["plugin"], plugin["events_behind"], plugin["dead_letters"]) == ("webhook", 1, 3)
    assert plugin["failing"]["failures"] == 3
    shown = dead.mailer("status").stdout
    assert f"webhook: 1 events behind, failed 3 times at event {end + 1}-0" in shown
    assert "(RuntimeError: no)" in shown

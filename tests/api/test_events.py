"""The event log over HTTP: pages, filters, and requests that wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from mailer.hookspecs import ProviderEvent
from mailer.store.log import LOOKED_AT
from mailer.vocabulary import EventType, OutcomeKind
from tests.api.service import Answer, Service
from tests.api.steps import CLOCK, claim_all, record
from tests.waiting import until

Serve = Callable[..., Service]


def ask(service: Service, **parameters: object) -> Answer:
    return service.get(f"/v1/events?{urlencode(parameters)}")


def page(service: Service, **parameters: object) -> Any:
    answer = ask(service, **parameters)
    assert answer.status == 200, answer.body
    return answer.json


def types(found: Any) -> list[str]:
    return [event["type"] for event in found["events"]]


def happen(service: Service, count: int = 1, kind: EventType = EventType.OTHER) -> None:
    """Events about no mail."""
    with closing(service.store()) as store, store.write():
        store.events.learn([ProviderEvent(kind, 0, "test", "")] * count, now_ms=0)


def end(service: Service) -> str:
    found: str = page(service, after="end")["next"]
    return found


def test_a_mails_life_is_told_whole(api: Service) -> None:
    after = end(api)
    mail = api.send("ann@example.org", topic_id="told/1", tags={"kind": "test"}).json
    (request_id,) = mail["messages"][0]["request_ids"]
    record(api, claim_all(api), OutcomeKind.ACCEPTED)
    bounce = ProviderEvent(
        EventType.BOUNCE,
        CLOCK.wall_ms(),
        "provider",
        "bounce-1",
        request_id=request_id,
        permanent=True,
        detail="no such user",
        raw='{"a": 1}',
    )
    with closing(api.store()) as store, store.write():
        store.events.learn([bounce], now_ms=CLOCK.wall_ms())
    found = page(api, after=after, topic_id="told/1")
    assert types(found) == ["accepted", "sent", "bounce"]
    assert found["more"] is False
    accepted, sent, told = found["events"]
    assert told == {
        "id": told["id"],
        "type": "bounce",
        "at": told["at"],
        "mail_id": request_id,
        "batch_id": mail["batch_id"],
        "topic_id": "told/1",
        "recipient": "ann@example.org",
        "tags": {"kind": "test"},
        "source": "provider",
        "detail": "no such user",
        "permanent": True,
        "already_suppressed": False,
        "automated": False,
        "raw": '{"a": 1}',
    }
    assert (sent["mail_id"], sent["source"]) == (request_id, "maildir")
    assert accepted["batch_id"] == mail["batch_id"]
    assert accepted["mail_id"] is None
    again = page(api, after=after, topic_id="told/1")
    assert [e["id"] for e in again["events"]] == [e["id"] for e in found["events"]]


def test_pages_follow_each_other_without_gap_or_repeat(api: Service) -> None:
    after = first = end(api)
    happen(api, 25)
    found: list[str] = []
    more = True
    while more:
        part = page(api, after=after, limit=10)
        found += [event["id"] for event in part["events"]]
        after, more = part["next"], part["more"]
    whole = page(api, after=first, limit=1000)
    assert found == [event["id"] for event in whole["events"]]
    assert len(set(found)) == 25
    behind = page(api, after=found[9])
    assert [event["id"] for event in behind["events"]] == found[10:]
    assert page(api, after=after) == {"events": [], "next": after, "more": False}


def test_a_filter_looks_at_so_much_of_the_log_and_no_more_in_one_request(api: Service) -> None:
    after = end(api)
    happen(api, LOOKED_AT + 10)
    happen(api, kind=EventType.REJECT)
    first = page(api, after=after, type="reject")
    assert (first["events"], first["more"]) == ([], True)
    second = page(api, after=first["next"], type="reject")
    assert (types(second), second["more"]) == (["reject"], False)


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"after": "x"}, "after"),
        ({"after": "999999999"}, "after"),
        ({"after": "1-"}, "after"),
        ({"type": "x"}, "type"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"wait": 51}, "wait"),
        ({"wait": "1.5"}, "wait"),
        ({"mail": "x"}, "mail"),
    ],
)
def test_what_is_wrong_is_named(api: Service, parameters: dict[str, object], path: str) -> None:
    answer = ask(api, **parameters)
    assert answer.status == 422
    assert [at for at, _ in answer.faults] == [path]


class Waiting:
    """Requests that wait, each in a thread."""

    def __init__(self, service: Service, count: int, **parameters: object) -> None:
        self._threads = ThreadPoolExecutor(count)
        self._began = threading.Barrier(count + 1)
        self._answers = [
            self._threads.submit(self._wait, service, parameters) for _ in range(count)
        ]
        self._began.wait()

    def _wait(self, service: Service, parameters: dict[str, object]) -> tuple[Any, float]:
        self._began.wait()
        began_us = CLOCK.mono_us()
        found = page(service, **parameters)
        return found, (CLOCK.mono_us() - began_us) / 1e6

    @property
    def answered(self) -> bool:
        return any(answer.done() for answer in self._answers)

    def answers(self) -> list[tuple[Any, float]]:
        """What each was answered, and after how many seconds."""
        return [answer.result() for answer in self._answers]


def test_a_request_waits_until_something_comes(api: Service) -> None:
    waiting = Waiting(api, 1, after=end(api), wait=30)
    until(lambda: api.get("/health").status == 200)
    assert not waiting.answered
    happen(api)
    ((found, waited_s),) = waiting.answers()
    assert types(found) == ["other"]
    assert waited_s < 5


def test_it_waits_for_what_it_asked_for(api: Service) -> None:
    waiting = Waiting(api, 1, after=end(api), type="reject", wait=30)
    happen(api, 3)
    until(lambda: ask(api, after="end").status == 200)
    assert not waiting.answered
    happen(api, kind=EventType.REJECT)
    ((found, _),) = waiting.answers()
    assert types(found) == ["reject"]


def test_when_nothing_comes_the_answer_is_empty(api: Service) -> None:
    after = end(api)
    ((found, waited_s),) = Waiting(api, 1, after=after, wait=1).answers()
    assert found == {"events": [], "next": after, "more": False}
    assert 1 <= waited_s < 5


def test_many_wait_beside_others_who_do_not(api: Service) -> None:
    """More than there are threads that read."""
    waiting = Waiting(api, 100, after=end(api), wait=30)
    for _ in range(20):
        asked_us = CLOCK.mono_us()
        assert api.get("/v1/mails?limit=1").status == 200
        assert CLOCK.mono_us() - asked_us < 2_000_000
    assert not waiting.answered
    happen(api)
    assert {tuple(types(found)) for found, _ in waiting.answers()} == {("other",)}


def test_a_server_that_stops_answers_those_who_wait(serve: Serve) -> None:
    service = serve()
    waiting = Waiting(service, 5, after="end", wait=50)
    until(lambda: connections(service) >= 5)
    assert service.get("/health").status == 200
    asked_us = CLOCK.mono_us()
    assert service.stop() == 0
    assert (CLOCK.mono_us() - asked_us) / 1e6 < 4
    assert {found["more"] for found, _ in waiting.answers()} == {False}


def connections(service: Service) -> int:
    """How many clients are connected (proc_net_tcp(5))."""
    server = f":{service.port:04X}"
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(local.endswith(server) and state == "01" for _, local, _, state, *_ in lines)

"""All of mailer with receivers: what happens to mail arrives, whatever is killed meanwhile."""

from __future__ import annotations

import json
import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from mailer_webhook.deliverer import DELIVERIES_A_JOB
from mailer_webhook.queue import STREAMS

from mailer.hookspecs import ProviderEvent
from mailer.vocabulary import EventType
from tests.counts import often
from tests.process.harness import Mailer, addresses
from tests.waiting import until
from tests.webhook import receiver as r
from tests.webhook.receiver import Receiver

TOLD = (EventType.DELIVERY, EventType.OPEN, EventType.CLICK)
MAILS = often(50_000) // (len(TOLD) + 1)
"""Each is handed over, which is an event too."""
KILLS = often(60)
NOTIFIER_REPEATS = 200
WORKER, NOTIFIER = "worker webhooks", "notifier webhook"

Start = Callable[..., Mailer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """An installation with these endpoints; ended with the test."""
    started: list[Mailer] = []

    def run(*endpoints: str) -> Mailer:
        mailer = Mailer(
            tmp_path,
            WEBHOOK_ENDPOINTS="; ".join(endpoints),
            WEBHOOK_ALLOW_PRIVATE="127.0.0.0/8",
            MAX_SEND_PER_SECOND="unlimited",
        )
        started.append(mailer)
        until(lambda: len(secrets(mailer)) == len(endpoints))
        until(lambda: mailer.rows("SELECT 1 FROM cursors WHERE plugin = 'webhook'"))
        assert bool(endpoints) == bool({WORKER, NOTIFIER} & set(mailer.children()))
        return mailer

    yield run
    for mailer in started:
        mailer.end()


@pytest.fixture
def batched() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def down() -> Iterator[Receiver]:
    with Receiver(r.hang) as made:
        yield made


def secrets(mailer: Mailer) -> dict[str, str]:
    """The newest secret of each endpoint, by its URL."""
    rows = mailer.rows(
        "SELECT value FROM shelves WHERE plugin = 'webhook' AND key BETWEEN 'endpoint/' AND 'f'"
    )
    endpoints = [json.loads(value) for (value,) in rows]
    return {endpoint["choice"]["url"]: endpoint["secrets"][0]["key"] for endpoint in endpoints}


def waiting(mailer: Mailer) -> int:
    ((count,),) = mailer.rows(
        "SELECT count(*) FROM shelves WHERE plugin = 'webhook' AND key BETWEEN 'new/' AND 'new0'"
    )
    return int(count)


def learn(mailer: Mailer, mails: list[str]) -> None:
    """What a provider tells of mails after their hand-over."""
    with closing(mailer.store()) as store:
        for type_ in TOLD:
            for first in range(0, len(mails), 500):
                part = [
                    ProviderEvent(type_, 0, "ses", f"{type_}-{mail}", request_id=mail)
                    for mail in mails[first : first + 500]
                ]
                with store.write():
                    store.events.learn(part, now_ms=r.now_ms())


def logged(mailer: Mailer) -> set[str]:
    """Ids of all events."""
    return {f"{id_}-{at_ms:x}" for id_, at_ms in mailer.rows("SELECT id, at_ms FROM events")}


def data(receiver: Receiver) -> list[dict[str, Any]]:
    """Every event that arrived, in order of arrival, batches taken apart."""
    bodies = [json.loads(delivery.body) for delivery in list(receiver.deliveries)]
    parts = [body["data"] if body["type"] == "batch" else [body] for body in bodies]
    return [part["data"] for parts_of_one in parts for part in parts_of_one]


def assert_all_arrive(receiver: Receiver, ids: Collection[str]) -> None:
    """These events and no others, and those of a mail in their order, repeats left out."""
    until(
        lambda: len(receiver.deliveries) and {e["id"] for e in data(receiver)} == ids, within_s=300
    )
    places: dict[str, dict[int, None]] = {}
    for event in data(receiver):
        line = places.setdefault(event["mail_id"] or event["id"], {})
        line[int(event["id"].partition("-")[0])] = None
    assert all(a < b for line in places.values() for a, b in pairwise(line))


def test_what_happens_to_mail_arrives_signed_and_in_order(
    start: Start, receiver: Receiver, batched: Receiver, down: Receiver
) -> None:
    """One event at a time here, in batches there; a third endpoint hangs, and costs no memory."""
    mailer = start(receiver.url, f"{batched.url} batch=100", down.url)
    mails = mailer.accepted(*addresses(500), topic_id="news/1")
    until(mailer.finished)
    assert_all_arrive(receiver, logged(mailer))
    before_kib = resident_kib(mailer)
    learn(mailer, mails)
    for told in (receiver, batched):
        assert_all_arrive(told, logged(mailer))
        key = secrets(mailer)[told.url]
        assert all(delivery.verified(key) for delivery in told.deliveries)
    assert waiting(mailer) > 1_900
    assert resident_kib(mailer) - before_kib < 4_096
    assert mailer.stop() == 0
    assert "Traceback" not in mailer.log


def test_killed_at_random_it_loses_nothing(
    start: Start, receiver: Receiver, batched: Receiver
) -> None:
    dice = random.Random(f"webhooks {MAILS}")
    mailer = start(receiver.url, f"{batched.url} batch=100")
    mails: list[str] = []
    while len(mails) < MAILS:
        many = min(2_500, MAILS - len(mails))
        mails += mailer.accepted(*addresses(many, f"reader{len(mails)}-"))
    until(mailer.finished, within_s=120)
    learn(mailer, mails)
    kills = Counter[str]()
    for _ in range(KILLS):
        name = dice.choice((WORKER, WORKER, NOTIFIER))
        kill_at_work(mailer, name, receiver)
        kills[name] += 1
    ids = logged(mailer)
    assert len(ids) > 4 * MAILS
    for told in (receiver, batched):
        assert_all_arrive(told, ids)
        repeats = len(data(told)) - len(ids)
        print(f"\n{dict(kills)}: {repeats} repeats of {len(ids)} events")
        of_worker = kills[WORKER] * STREAMS * DELIVERIES_A_JOB
        assert repeats <= of_worker + kills[NOTIFIER] * NOTIFIER_REPEATS
    assert len(data(receiver)) > len(ids), "no kill came at a moment that matters"
    mailer.assert_sound()


def test_it_costs_nothing_until_there_is_an_endpoint_and_misses_nothing_then(
    start: Start, receiver: Receiver
) -> None:
    mailer = start()
    mailer.accepted(*addresses(10))
    until(mailer.finished)
    before = logged(mailer)
    with supervisor_stopped(mailer):  # whatever happens before it sees that there is one
        answer = mailer.post("/v1/webhooks", {"url": receiver.url})
        assert answer.status == 200, answer.body
        mailer.accepted(*addresses(10, "later"))
        until(mailer.finished)
    made_ms = r.now_ms()
    assert_all_arrive(receiver, logged(mailer) - before)
    print(f"\n{r.now_ms() - made_ms} ms until all had arrived")
    mailer.request("DELETE", f"/v1/webhooks/{answer.json['endpoint_id']}")
    until(lambda: not {WORKER, NOTIFIER} & set(mailer.children()))
    assert mailer.rows("SELECT * FROM shelves") == []
    mailer.assert_sound()


@contextmanager
def supervisor_stopped(mailer: Mailer) -> Iterator[None]:
    mailer.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        mailer.process.send_signal(signal.SIGCONT)


def kill_at_work(mailer: Mailer, name: str, receiver: Receiver) -> None:
    """When some more have arrived than now, or all; until its successor is there."""
    pid = until(lambda: mailer.children().get(name, 0))
    more = len(receiver.deliveries) + 20
    until(lambda: len(receiver.deliveries) > more or not waiting(mailer), within_s=30)
    mailer.kill(pid)
    until(lambda: mailer.children().get(name, pid) != pid)


def resident_kib(mailer: Mailer) -> int:
    status = Path(f"/proc/{mailer.children()[WORKER]}/status").read_text()
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kib)

"""Accepted mail is never lost, whatever is killed; copies are bounded, and told.

A client keeps a ledger of what was answered 2xx, an SMTP sink of what arrived, and in between every
kind of process is killed with SIGKILL, in random order. The control gives up what is uncertain
instead of sending it again: then mail is lost, and the same comparison must find it.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from tests.counts import FULL
from tests.process.harness import CLOCK, Mailer, Sink, addresses
from tests.waiting import until

pytestmark = pytest.mark.alone

Start = Callable[..., Mailer]

MAILS, KILLS = (10_000, 200) if FULL else (1_000, 20)
RATE, POSTS_A_SECOND = 100, 40
BETWEEN_KILLS = 40 if FULL else 20
"""So many mails must arrive after one kill before the next."""
SMTP_IN_FLIGHT = 16
"""Calls one sender of the SMTP transport has in flight at most."""
VICTIMS = ("API worker", "API", "sender", "supervisor")


class Client(threading.Thread):
    """Posts until all is accepted, each request under its key until it is answered."""

    def __init__(self, mailer: Mailer, mails: int) -> None:
        super().__init__(daemon=True)
        self.ledger: set[str] = set()
        self.retried = 0
        self._mailer = mailer
        self._mails = mails
        self._random = random.Random(7)
        self._pause = threading.Event()

    def run(self) -> None:
        while len(self.ledger) < self._mails:
            size = min(self._mails - len(self.ledger), self._random.choice((1, 1, 2, 20, 100)))
            names = [f"r{self._random.getrandbits(60):x}@example.com" for _ in range(size)]
            key = {"Idempotency-Key": f"{self._random.getrandbits(100):x}"}
            message = {"topic_id": "kills", "emails": names, "subject": "s", "content": "<p>c"}
            self.ledger |= self._answered(json.dumps({"messages": [message]}).encode(), key)
            self._pause.wait(size / POSTS_A_SECOND)

    def _answered(self, body: bytes, key: dict[str, str]) -> set[str]:
        """The ids that the answer to this request names, whenever that comes."""
        while True:
            try:
                answer = self._mailer.post("/v1/messages", body, key)
                if answer.status == 200:
                    return set(answer.json["messages"][0]["request_ids"])
                assert answer.status == 503, answer.body
            except (OSError, http.client.HTTPException):
                pass
            self.retried += 1
            self._pause.wait(0.05)


def kill_one(mailer: Mailer, victim: str) -> None:
    """Kill a process of this kind; of the first process a new one is started at once."""
    children = mailer.children()
    senders = [pid for name, pid in children.items() if name.startswith("sender")]
    match victim:
        case "API worker" if workers := mailer.workers():
            mailer.kill(random.choice(workers))
        case "API" if "serve" in children:
            mailer.kill(children["serve"])
        case "sender" if senders:
            mailer.kill(random.choice(senders))
        case "supervisor":
            mailer.kill(mailer.process.pid)
            mailer.start_anew()


def compare(ledger: set[str], arrived: list[str], uncertain: dict[str, int]) -> list[str]:
    """What breaks the promise: lost and foreign mails, and copies nobody was told of."""
    copies = Counter(arrived)
    return [
        *(f"{mail} is lost" for mail in sorted(ledger - set(copies))),
        *(f"{mail} was never accepted" for mail in sorted(set(copies) - ledger)),
        *(
            f"{mail} came {count} times, uncertain {uncertain.get(mail, 0)} times"
            for mail, count in sorted(copies.items())
            if count - 1 > uncertain.get(mail, 0)
        ),
    ]


def test_nothing_is_lost_whatever_is_killed(start: Start, smtp_sink: Sink) -> None:
    mailer = start(
        TRANSPORT="smtp", SMTP_URL=smtp_sink.url, MAX_SEND_PER_SECOND=str(RATE), API_WORKERS="2"
    )
    client = Client(mailer, MAILS)
    client.start()
    victims = [VICTIMS[n % len(VICTIMS)] for n in range(KILLS)]
    random.shuffle(victims)
    pauses_s = []
    for victim in victims:
        smtp_sink.await_more(BETWEEN_KILLS, within_s=20)
        killed_us = CLOCK.mono_us()
        kill_one(mailer, victim)
        pauses_s.append((arrives_after(smtp_sink, killed_us + 20_000) - killed_us) / 1e6)
    client.join(60 + MAILS / POSTS_A_SECOND)
    until(mailer.finished, within_s=60 + MAILS / RATE)
    arrived = [mail.request_id for mail in smtp_sink.mails()]
    uncertain = mailer.uncertain_events()
    copies = len(arrived) - len(set(arrived))
    print(
        f"\n{KILLS} kills, {len(client.ledger)} mails accepted ({client.retried} tries again),"
        f" {copies} second copies, {sum(uncertain.values())} uncertain,"
        f" longest pause {max(pauses_s):.2f} s"
    )
    assert len(client.ledger) == MAILS
    assert compare(client.ledger, arrived, uncertain) == []
    assert sum(uncertain.values()) <= SMTP_IN_FLIGHT * victims.count("sender")
    assert mailer.states() == {"sent": MAILS}
    mailer.assert_sound()


def arrives_after(smtp_sink: Sink, at_us: int) -> int:
    """When the first mail after that instant arrives."""
    until(lambda: any(mail.at_us > at_us for mail in smtp_sink.mails()), within_s=5)
    return min(mail.at_us for mail in smtp_sink.mails() if mail.at_us > at_us)


def test_control_uncertain_mail_that_is_given_up_is_lost(start: Start, smtp_sink: Sink) -> None:
    mailer = start(
        TRANSPORT="smtp",
        SMTP_URL=smtp_sink.url,
        MAX_SEND_PER_SECOND="100",
        UNCERTAIN_POLICY="give_up",
    )
    ledger = set(mailer.accepted(*addresses(300)))
    until(smtp_sink.mails)
    with smtp_sink.stopped():
        until(lambda: in_call(mailer))
        for pid in mailer.senders().values():
            mailer.kill(pid)
    until(mailer.finished, within_s=30)
    arrived = [mail.request_id for mail in smtp_sink.mails()]
    assert any("is lost" in fault for fault in compare(ledger, arrived, {}))


def in_call(mailer: Mailer) -> int:
    """How many mails are with a transport that has not answered for a while."""
    since_us = CLOCK.mono_us() - 300_000
    ((mails,),) = mailer.rows(
        "SELECT count(*) FROM mails WHERE state = 'sending' AND slot_us < ?", since_us
    )
    return int(mails)


def test_a_killed_sender_is_replaced_within_a_second(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="100")
    mailer.accepted(*addresses(1_000))
    for name in ("sender 0", "sender 1", *["sender 0"] * 5):
        until(lambda: len(mailer.senders()) == 2)
        old = mailer.senders()[name]
        mailer.kill(old)
        await_successor(mailer, name, old)
    until(mailer.finished, within_s=30)
    mailer.assert_sound()


def await_successor(mailer: Mailer, name: str, old: int) -> None:
    """Another process is started under this name within a second."""
    until(lambda: mailer.children().get(name, old) != old, within_s=1)

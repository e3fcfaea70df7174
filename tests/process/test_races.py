"""Steering races with sending: after the answer nothing is handed over that it did not speak of.

The recording transport says at which instant each mail entered it; the answer says how many were
in flight. Whatever enters after the answer must be one of those.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.api.service import JSON, Answer
from tests.counts import FULL
from tests.process.harness import CLOCK, Mailer, addresses
from tests.waiting import until

Start = Callable[..., Mailer]

ROUNDS = 50 if FULL else 3
MAILS = 100
RATE = 200
IN_FLIGHT = 2 * 16
"""Two senders, each with as many calls at once as the recording transport allows."""


class Race:
    """Mail being sent, and the moment in the middle of it."""

    def __init__(self, mailer: Mailer, topic_id: str) -> None:
        self.mailer = mailer
        self.topic_id = topic_id
        self.mails = mailer.accepted(*addresses(MAILS), topic_id=topic_id)
        some = random.randrange(1, MAILS // 2)
        until(lambda: len(self.entered()) >= some)
        self.answered_us = 0

    def entered(self) -> dict[str, int]:
        """When each of these mails entered the transport."""
        ours = set(self.mails)
        calls = self.mailer.hand_overs()
        return {call.request_id: call.at_us for call in calls if call.request_id in ours}

    def call(self, method: str, path: str, body: bytes | None = None) -> Answer:
        answer = self.mailer.request(method, path, body, JSON if body else None)
        self.answered_us = CLOCK.mono_us()
        assert answer.status in {200, 409}, answer.body
        return answer

    def late(self) -> list[str]:
        """Mails that entered the transport after the answer, once all is quiet."""
        until(lambda: not self.states()["sending"])
        return [mail for mail, at_us in self.entered().items() if at_us > self.answered_us]

    def await_all(self) -> None:
        until(lambda: len(self.entered()) == MAILS)

    def states(self) -> dict[str, int]:
        states: dict[str, int] = self.mailer.topic(self.topic_id)["states"]
        return states


def test_cancelling_a_topic(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE))
    for n in range(ROUNDS):
        race = Race(mailer, f"topic-{n}")
        told = race.call("DELETE", f"/v1/topics/{race.topic_id}").json
        assert told["cancelled"] + told["in_flight"] + told["already_sent"] == MAILS, told
        assert len(race.late()) <= told["in_flight"]
        states = race.states()
        assert states["sent"] == len(race.entered())
        assert states["cancelled"] + states["sent"] == MAILS
        assert told["cancelled"] <= states["cancelled"] <= told["cancelled"] + told["in_flight"]
    assert mailer.finished()
    mailer.assert_sound()


def test_cancelling_a_batch(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE))
    for n in range(ROUNDS):
        race = Race(mailer, f"batch-{n}")
        batch_id = race.mails[0].partition("-")[0]
        told = race.call("DELETE", f"/v1/batches/{batch_id}").json
        numbers = {name: n for name, n in told.items() if name != "status"}
        assert sum(numbers.values()) == MAILS, told
        assert len(race.late()) <= told["in_flight"]
        assert race.states()["cancelled"] >= told["cancelled"]
    assert mailer.finished()
    mailer.assert_sound()


def test_cancelling_single_mails(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE))
    race = Race(mailer, "mails")
    stopped: dict[str, int] = {}
    in_flight = 0
    for mail in random.sample(race.mails, MAILS):
        answer = race.call("DELETE", f"/v1/mails/{mail}")
        if answer.status == 200 and answer.json["cancelled"]:
            stopped[mail] = race.answered_us
        elif answer.status == 200:
            in_flight += 1
    until(mailer.finished)
    assert stopped
    assert not set(stopped) & set(race.entered())
    cancelled = race.states()["cancelled"]
    assert len(stopped) <= cancelled <= len(stopped) + in_flight
    mailer.assert_sound()


def test_pausing_and_resuming(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE))
    for n in range(ROUNDS):
        race = Race(mailer, f"pause-{n}")
        race.call("POST", f"/v1/topics/{race.topic_id}/pause")
        in_flight = race.states()["sending"]
        late = race.late()
        assert len(late) <= IN_FLIGHT, late
        assert in_flight <= IN_FLIGHT
        _assert_still(race)
        race.call("POST", f"/v1/topics/{race.topic_id}/resume")
        race.await_all()
    until(mailer.finished)
    calls = [call.request_id for call in mailer.hand_overs()]
    assert len(calls) == len(set(calls)) == mailer.states()["sent"]
    mailer.assert_sound()


def _assert_still(race: Race) -> None:
    """Other mail passes, and of this topic nothing enters meanwhile."""
    entered = race.entered()
    other = set(race.mailer.accepted(*addresses(RATE // 4), topic_id="other"))
    until(lambda: other <= {call.request_id for call in race.mailer.hand_overs()})
    assert race.entered() == entered


def test_rescheduling_takes_a_mail_out_of_its_turn(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE))
    race = Race(mailer, "reschedule")
    tomorrow = _body(datetime.now(UTC) + timedelta(days=1))
    moved = set()
    for mail in random.sample(race.mails, MAILS):
        if race.call("PATCH", f"/v1/mails/{mail}", tomorrow).status == 200:
            moved.add(mail)
    until(lambda: race.states()["pending"] == len(moved))
    assert moved
    assert not moved & set(race.entered())
    for mail in moved:
        assert race.call("PATCH", f"/v1/mails/{mail}", _body(datetime.now(UTC))).status == 200
    until(mailer.finished)
    assert len(mailer.hand_overs()) == MAILS
    mailer.assert_sound()


def _body(time: datetime) -> bytes:
    return json.dumps({"scheduled_at": time.isoformat()}).encode()


def test_many_steer_at_once(start: Start) -> None:
    """Pause, resume, cancel and posting of the same topics from several sides."""
    mailer = start(MAX_SEND_PER_SECOND=str(RATE))
    races = [Race(mailer, f"all-{n}") for n in range(4)]

    def steer(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(ROUNDS * 4):
            topic_id = f"all-{dice.randrange(4)}"
            match dice.randrange(4):
                case 0:
                    mailer.post(f"/v1/topics/{topic_id}/pause", b"")
                case 1:
                    mailer.post(f"/v1/topics/{topic_id}/resume", b"")
                case 2:
                    mailer.request("DELETE", f"/v1/topics/{topic_id}")
                case 3:
                    mailer.accepted(*addresses(5), topic_id=topic_id)

    threads = [threading.Thread(target=steer, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for race in races:
        mailer.post(f"/v1/topics/{race.topic_id}/resume", b"")
    until(mailer.finished, within_s=30)
    calls = [call.request_id for call in mailer.hand_overs()]
    assert len(calls) == len(set(calls)) == mailer.states()["sent"]
    mailer.assert_sound()


def test_control_mail_that_nobody_stops_enters_after_the_call(start: Start) -> None:
    """The same race with a call that stops nothing: then far more enters than is in flight."""
    mailer = start(MAX_SEND_PER_SECOND=str(RATE))
    race = Race(mailer, "nothing")
    race.call("GET", f"/v1/topics/{race.topic_id}")
    in_flight = race.states()["sending"]
    until(mailer.finished)
    assert len(race.late()) > in_flight

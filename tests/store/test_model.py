"""Everything that can happen to mail, in any order hypothesis can think of, against a small model.

After each step the counters equal a recount, every mail has moved as the vocabulary allows, no
mail is leased twice, and none that was taken is ever claimed again.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mailer.mail import ClaimedMail
from mailer.store.connection import sqlite3
from mailer.store.migrate import migrate
from mailer.vocabulary import (
    HANDED_OVER,
    UNFINISHED,
    EventType,
    Lane,
    OutcomeKind,
    State,
    SuppressionReason,
    way,
)
from tests.store.recount import differences
from tests.store.world import DAY_MS, World, event, new_world

TOPICS = (None, "news/a", "news/b", "alerts")
PEOPLE = tuple(f"{name}@x.org" for name in "abcde")
SENDERS = 3
SHAPE = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

topics = st.sampled_from(TOPICS)
named_topics = st.sampled_from(TOPICS[1:])
picks = st.integers(0, 10**6)


class Row(NamedTuple):
    """What the database says of one mail."""

    request_id: str
    topic: int
    topic_id: str
    state: State
    recipient: str
    waits_for: str | None
    due_at_ms: int


_ROWS = """
SELECT m.id, b.batch_id || '-' || (m.id - b.id), m.topic, t.topic_id, m.state,
    m.recipient, m.waits_for, m.due_at_ms
FROM mails m JOIN batches b ON b.id = m.batch JOIN topics t ON t.id = m.topic
"""


class Mailer(RuleBasedStateMachine):
    """The model knows what is in flight, what was taken, what is paused and who is suppressed."""

    migrated: Path

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.world: World = new_world(Path(self.directory.name), self.migrated)
        self.senders = [self.world.new_sender() for _ in range(SENDERS)]
        self.in_flight: dict[int, list[ClaimedMail]] = {sender: [] for sender in self.senders}
        self.taken: set[int] = set()
        self.rejected_later: set[int] = set()
        self.rows: dict[int, Row] = {}
        self.removed: list[tuple[int, State]] = []
        self.pruning = False

    def teardown(self) -> None:
        self.world.close()
        self.directory.cleanup()

    def any_row(self, pick: int) -> Row:
        return list(self.rows.values())[pick % len(self.rows)]

    def seen_topic(self, topic_id: str) -> bool:
        return self.world.store.topics.get(topic_id) is not None

    @initialize()
    def register(self) -> None:
        with self.world.store.write():
            self.world.store.transports.register("post", reports_events=False)

    @rule(
        emails=st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=5, unique=True),
        topic_id=topics,
        lane=st.sampled_from(list(Lane)),
        due_in_s=st.sampled_from([0, 0, 0, 30, -30]),
        expires_in_s=st.sampled_from([None, None, 20]),
    )
    def accept(
        self,
        emails: list[str],
        topic_id: str | None,
        lane: Lane,
        due_in_s: int,
        expires_in_s: int | None,
    ) -> None:
        expires_at_ms = self.world.now_ms + expires_in_s * 1000 if expires_in_s else None
        self.world.accept(
            *emails, topic_id=topic_id, lane=lane, due_in_s=due_in_s, expires_at_ms=expires_at_ms
        )

    @rule(pick=picks, calls=st.integers(1, 6), alone=st.booleans())
    def claim(self, pick: int, calls: int, alone: bool) -> None:
        sender = self.senders[pick % SENDERS]
        mails = self.world.claim(sender=sender, calls=calls, alone=alone)
        assert len(mails) <= (1 if alone else calls)
        leased = {mail.id for mails in self.in_flight.values() for mail in mails}
        for mail in mails:
            row = self.rows[mail.id]
            assert mail.id not in leased
            leased.add(mail.id)
            assert mail.id not in self.taken - self.rejected_later
            assert (row.waits_for == "alone") is alone
            assert row.waits_for in {"turn", "alone"} or row.due_at_ms <= self.world.now_ms
            assert not self.world.store.topics.get(row.topic_id).paused  # type: ignore[union-attr]
        self.in_flight[sender] += mails

    @rule(pick=picks, kind=st.sampled_from(list(OutcomeKind)), words=st.sampled_from(["", "why"]))
    def record(self, pick: int, kind: OutcomeKind, words: str) -> None:
        mails = self.in_flight[self.senders[pick % SENDERS]]
        ended, mails[:] = mails[: 1 + pick % 3], mails[1 + pick % 3 :]
        for mail in ended:
            self.world.record(mail, kind, words, provider_id=f"p-{mail.id}")
        if kind is OutcomeKind.ACCEPTED:
            self.taken |= {mail.id for mail in ended}

    @rule(pick=picks)
    def give_back(self, pick: int) -> None:
        mails = self.in_flight[self.senders[pick % SENDERS]]
        with self.world.store.write():
            self.world.store.outcomes.give_back(
                [mail.id for mail in mails], now_ms=self.world.now_ms
            )
        mails.clear()

    @rule(pick=picks, before_its_slots=st.booleans())
    def a_sender_dies(self, pick: int, before_its_slots: bool) -> None:
        sender = self.senders[pick % SENDERS]
        begun_us = 0 if before_its_slots else None
        self.world.rescue(sender, begun_us=begun_us)
        self.in_flight[sender].clear()

    @rule(seconds=st.sampled_from([1, 3, 31, 3600, 3 * 86400]))
    def time_passes(self, seconds: int) -> None:
        self.world.pass_s(seconds)

    @rule(seconds=st.sampled_from([10, 86400]))
    def the_wall_clock_is_set_back(self, seconds: int) -> None:
        self.world.now_ms -= seconds * 1000

    @rule()
    def duties(self) -> None:
        self.world.settle()
        with self.world.store.write():
            self.world.store.expiry.expire(now_ms=self.world.now_ms, step=3)

    @precondition(lambda self: self.rows)
    @rule(
        pick=picks,
        kind=st.sampled_from([*EventType]),
        permanent=st.booleans(),
        by_our_id=st.booleans(),
    )
    def a_provider_tells(
        self, pick: int, kind: EventType, permanent: bool, by_our_id: bool
    ) -> None:
        mail_id = list(self.rows)[pick % len(self.rows)]
        about = (
            {"request_id": self.rows[mail_id].request_id}
            if by_our_id
            else {"provider_id": f"p-{mail_id}"}
        )
        self.world.learn(event(kind, permanent=permanent, **about))
        if kind is EventType.REJECT:  # failed then, and an operator may try it again
            self.rejected_later.add(mail_id)

    @precondition(lambda self: self.rows)
    @rule(pick=picks, in_s=st.sampled_from([-5, 0, 60]))
    def reschedule(self, pick: int, in_s: int) -> None:
        row = self.any_row(pick)
        if row.state is State.PENDING:
            with self.world.store.write():
                self.world.store.mails.reschedule(
                    row.request_id, self.world.now_ms + in_s * 1000, now_ms=self.world.now_ms
                )

    @precondition(lambda self: self.rows)
    @rule(pick=picks)
    def cancel_a_mail(self, pick: int) -> None:
        row = self.any_row(pick)
        if row.state in UNFINISHED:
            with self.world.store.write():
                self.world.store.mails.cancel(row.request_id, now_ms=self.world.now_ms)

    @precondition(lambda self: self.rows)
    @rule(pick=picks)
    def cancel_a_batch(self, pick: int) -> None:
        batch_id = self.any_row(pick).request_id.partition("-")[0]
        with self.world.store.write():
            counted = self.world.store.mails.cancel_batch(batch_id, now_ms=self.world.now_ms)
        assert min(counted) >= 0

    @rule(topic_id=named_topics)
    def cancel_a_topic(self, topic_id: str) -> None:
        if not self.seen_topic(topic_id):
            return
        with self.world.store.write():
            self.world.store.topics.begin_cancel(topic_id)
            step = self.world.store.topics.cancel(topic_id, after=0, now_ms=self.world.now_ms)
        assert self.world.counters(topic_id).get("pending", 0) == 0
        assert step.after == 0

    @rule(topic_id=named_topics, resume=st.booleans())
    def pause_or_resume(self, topic_id: str, resume: bool) -> None:
        if not self.seen_topic(topic_id):
            return
        with self.world.store.write():
            if resume:
                self.world.store.topics.resume(topic_id)
                self.world.store.topics.unpark(topic_id, after=0, now_ms=self.world.now_ms)
            else:
                self.world.store.topics.pause(topic_id)

    @rule(topic_id=named_topics)
    def retry(self, topic_id: str) -> None:
        if self.seen_topic(topic_id):
            with self.world.store.write():
                self.world.store.topics.retry(topic_id, after=0, now_ms=self.world.now_ms)

    @rule(email=st.sampled_from(PEOPLE), scope=st.sampled_from(["", "news"]), remove=st.booleans())
    def suppress(self, email: str, scope: str, remove: bool) -> None:
        with self.world.store.write():
            if remove:
                self.world.store.suppressions.remove(email, scope=scope)
            else:
                self.world.store.suppressions.add(
                    email,
                    scope=scope,
                    reason=SuppressionReason.MANUAL,
                    detail="",
                    now_ms=self.world.now_ms,
                )

    @rule(step=st.integers(1, 20))
    def prune(self, step: int) -> None:
        self.pruning = True
        with self.world.store.write():
            self.world.store.batches.prune(
                retention_ms=2 * DAY_MS, now_ms=self.world.now_ms, step=step
            )

    @rule()
    def open_anew(self) -> None:
        self.world.close()
        self.world.store = self.world.twin()

    @invariant()
    def every_mail_has_moved_as_it_may(self) -> None:
        with closing(sqlite3.connect(self.world.path)) as database:
            rows = {
                row[0]: Row(row[1], row[2], row[3], State(row[4]), row[5], row[6], row[7])
                for row in database.execute(_ROWS)
            }
        for mail, old in self.rows.items():
            if mail not in rows:
                assert self.pruning
                assert old.state not in UNFINISHED
                self.removed.append((old.topic, old.state))
            elif rows[mail].state is not old.state:
                assert way(old.state, rows[mail].state), (old, rows[mail])
            if mail in self.taken - self.rejected_later and mail in rows:
                assert rows[mail].state in HANDED_OVER
        self.rows = rows
        self.pruning = False

    @invariant()
    def the_counters_equal_a_recount(self) -> None:
        assert differences(self.world.path, self.removed) == []


def test_whatever_happens_the_store_keeps_its_promises(tmp_path: Path) -> None:
    migrated = tmp_path / "migrated.db"
    migrate(migrated)

    class OnACopy(Mailer):
        pass

    OnACopy.migrated = migrated
    run_state_machine_as_test(OnACopy, settings=SHAPE)

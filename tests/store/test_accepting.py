"""Accepting mail: all of a batch or nothing, content once, ids that never come again."""

from __future__ import annotations

import pytest

from mailer.errors import QueueFull
from mailer.mail import Attachment, Content, NewMessage, Recipient
from mailer.store.idempotency import KeptAnswer
from mailer.vocabulary import Lane, State, WaitsFor
from tests.store.world import World, message, people


class Interrupted(Exception):
    pass


def test_ids_follow_the_order_of_messages_and_recipients(world: World) -> None:
    batch = world.batch(message("a@x.org", "b@x.org"), message("c@x.org", topic_id="news"))
    with world.store.write():
        world.store.batches.accept(batch, max_queued=10)
    found = [world.mail(f"{batch.batch_id}-{n}") for n in range(3)]
    assert [mail.recipient for mail in found] == ["a@x.org", "b@x.org", "c@x.org"]
    assert [mail.topic_id for mail in found] == [None, None, "news"]
    assert {mail.state for mail in found} == {State.PENDING}
    assert world.store.mails.get(f"{batch.batch_id}-3") is None


def test_a_mail_is_found_by_its_exact_id_only(world: World) -> None:
    (request_id,) = world.accept("a@x.org")
    assert world.store.mails.get(request_id) is not None
    for wrong in (
        "",
        "-",
        "1",
        "1-",
        "1-00",
        "1--0",
        "1-0 ",
        " 1-0",
        "1-0\n",
        "G-0",
        "1-\u0660",
        "1-1",
    ):
        assert world.store.mails.get(wrong) is None


def test_a_fault_in_the_middle_stores_nothing(world: World) -> None:
    batch = world.batch(message(*people(3), topic_id="news"))
    answer = KeptAnswer(b"f", 200, b"{}")

    def accept_and_fail() -> None:
        with world.store.write():
            world.store.batches.accept(batch, max_queued=10)
            world.store.idempotency.keep("ann", "key", answer, now_ms=world.now_ms)
            raise Interrupted

    with pytest.raises(Interrupted):
        accept_and_fail()
    assert world.store.batches.get(batch.batch_id) is None
    assert world.store.topics.get("news") is None
    assert world.store.idempotency.find("ann", "key") is None
    assert world.store.batches.queued() == 0
    assert world.claim() == []


def test_a_batch_that_cannot_be_stored_whole_is_not_stored_at_all(world: World) -> None:
    """The second message can't be written, as its subject holds half a character."""
    broken = world.batch(message("a@x.org"), NewMessage(Content("\ud800"), (Recipient("b@x.org"),)))
    with pytest.raises(UnicodeEncodeError), world.store.write():
        world.store.batches.accept(broken, max_queued=10)
    good = world.accept("c@x.org")
    assert world.claim_ids() == good
    assert world.counters() == {"total": 1, "sending": 1}


def test_a_full_queue_takes_whole_batches_only(world: World) -> None:
    world.accept(*people(8))
    with pytest.raises(QueueFull), world.store.write():
        world.store.batches.accept(world.batch(message(*people(3))), max_queued=10)
    with world.store.write():
        world.store.batches.accept(world.batch(message(*people(2))), max_queued=10)
    assert world.store.batches.queued() == 10
    world.record(world.claim())
    assert world.store.batches.queued() == 0


def test_content_is_stored_once_for_all_recipients(world: World) -> None:
    files = (
        Attachment("a.bin", "application/octet-stream", b"\0\r\n\xff"),
        Attachment("b.png", "image/png", b"", content_id="logo"),
    )
    world.accept(*people(5), attachments=files, headers=(("X-A", "1"),), tags={"k": "v"})
    claimed = world.claim()
    assert len({mail.message_id for mail in claimed}) == 1
    content = world.store.messages.get(claimed[0].message_id)
    assert content.attachments == files
    assert content.headers == (("X-A", "1"),)
    assert content.tags == {"k": "v"}
    assert content.topic_id is None


def test_each_recipient_keeps_name_and_data(world: World) -> None:
    people = (Recipient("a@x.org", "Änne", {"n": [1, None, "é"]}), Recipient("b@x.org"))
    batch = world.batch(NewMessage(Content("Hi", html="x", lane=Lane.BULK), people))
    with world.store.write():
        world.store.batches.accept(batch, max_queued=10)
    assert tuple(mail.recipient for mail in world.claim()) == people


def test_a_past_due_time_means_now(world: World) -> None:
    (late,) = world.accept("a@x.org", due_in_s=-60)
    (later,) = world.accept("b@x.org", due_in_s=60)
    assert world.mail(late).waits_for is WaitsFor.TURN
    assert world.mail(later).waits_for is WaitsFor.DUE_TIME


def test_a_topic_knows_its_earliest_due_time(world: World) -> None:
    world.accept("a@x.org", topic_id="t", due_in_s=60)
    world.accept("b@x.org", topic_id="t", due_in_s=30)
    world.accept("c@x.org", topic_id="t", due_in_s=90)
    topic = world.store.topics.get("t")
    assert topic is not None
    assert topic.first_due_at_ms == world.now_ms + 30_000


def test_a_batch_tells_its_states(world: World) -> None:
    world.accept(*people(3))
    world.record(world.claim(calls=1))
    batch = world.store.batches.get("1")
    assert batch is not None
    assert {k: n for k, n in batch.states.items() if n} == {"pending": 2, "sent": 1}
    assert batch.total == 3


def test_an_answer_is_kept_under_its_callers_key(world: World) -> None:
    with world.store.write():
        world.store.idempotency.keep("ann", "k", KeptAnswer(b"1", 200, b"a"), now_ms=world.now_ms)
        world.store.idempotency.keep("bob", "k", KeptAnswer(b"2", 200, b"b"), now_ms=world.now_ms)
    assert world.store.idempotency.find("ann", "k") == KeptAnswer(b"1", 200, b"a")
    assert world.store.idempotency.find("bob", "k") == KeptAnswer(b"2", 200, b"b")
    assert world.store.idempotency.find("ann", "K") is None


def test_old_answers_are_forgotten_a_few_at_a_time(world: World) -> None:
    with world.store.write():
        for n in range(5):
            answer = KeptAnswer(b"", 200, b"")
            world.store.idempotency.keep("ann", str(n), answer, now_ms=world.now_ms + n)
    with world.store.write():
        assert world.store.idempotency.forget(world.now_ms + 4, 3) == 3
        assert world.store.idempotency.forget(world.now_ms + 4, 3) == 1
        assert world.store.idempotency.forget(world.now_ms + 4, 3) == 0
    assert world.store.idempotency.find("ann", "4") is not None

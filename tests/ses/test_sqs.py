"""Events from a queue: believed like those posted, deleted only when they are on disk."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial

import boto3
import mailer_ses
import pytest
from botocore.config import Config
from mailer_ses.settings import SesSettings
from mailer_ses.sqs import MAX_AGE, Message, Queue, _read

from mailer.errors import SettingsError, StoreUnavailable
from mailer.hookspecs import Event, ProviderEvent, Shelf
from mailer.settings import Settings, load
from mailer.vocabulary import EventType
from tests.installation import free_port
from tests.ses.authority import Authority
from tests.ses.cloud import REGION, Cloud
from tests.ses.events import TOPIC_ARN, envelope, event, mail_object, now
from tests.waiting import until


class Room:
    """What a worker has of mailer, as far as it is used here; `learn` may be told to fail."""

    def __init__(self, *faults: BaseException) -> None:
        self.learnt: list[ProviderEvent] = []
        self.stopping = False
        self._woken = threading.Event()
        self._faults = list(faults)

    @property
    def shelf(self) -> Shelf:
        raise NotImplementedError

    def write(self) -> AbstractContextManager[None]:
        return nullcontext()

    def learn(self, events: Sequence[ProviderEvent]) -> int:
        if self._faults:
            raise self._faults.pop(0)
        self.learnt += events
        return len(events)

    def events(self, *, after: str = "", limit: int = 100) -> Sequence[Event]:
        raise NotImplementedError

    def wait(self, timeout_s: float) -> None:
        self._woken.wait(timeout_s)
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        self.stopping = True
        self.wake()


class Careless(Queue):
    """Deletes what it receives at once."""

    def _receive(self, wait_s: int) -> list[Message]:
        messages = super()._receive(wait_s)
        if messages:
            self._delete(messages)
        return messages


class Filled:
    """A queue in moto, filled as SNS would, with a dead-letter queue after two receives."""

    def __init__(self, cloud: Cloud, settings: Settings) -> None:
        self._sqs = cloud.client("sqs")
        self.dead_url = self._sqs.create_queue(QueueName="dead")["QueueUrl"]
        arn = cloud.queue("dead")["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
        attributes = {"VisibilityTimeout": "0", "RedrivePolicy": redrive}
        created = self._sqs.create_queue(QueueName="events", Attributes=attributes)
        self.url: str = created["QueueUrl"]
        self.settings = settings

    def hide_for(self, seconds: int) -> None:
        attributes = {"VisibilityTimeout": str(seconds)}
        self._sqs.set_queue_attributes(QueueUrl=self.url, Attributes=attributes)

    def put(self, *bodies: str) -> None:
        for body in bodies:
            self._sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def left(self, url: str = "") -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)
        return sum(int(number) for number in found["Attributes"].values())

    def reader(self, kind: type[Queue] = Queue) -> Queue:
        return kind(self._sqs, self.url, partial(_read, self.settings))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def queue(cloud: Cloud, authority: Authority) -> Filled:
    ours = SesSettings(topic_arns=(TOPIC_ARN,), cert_dir=authority.directory)
    return Filled(cloud, Settings(of_plugins={SesSettings: ours}))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def delivery(number: int) -> str:
    mail = mail_object(f"ses-{number}", f"user{number}@example.net", {"mailer_id": [f"a-{number}"]})
    recipients = [f"user{number}@example.net"]
    return event("Delivery", mail, delivery={"timestamp": now(), "recipients": recipients})


def signed(authority: Authority, number: int = 0, **changes: str) -> str:
    return json.dumps(authority.sign(envelope(delivery(number), **changes)))


def test_what_waits_is_learnt_and_deleted(
    queue: Filled, authority: Authority, pool: ThreadPoolExecutor
) -> None:
    """More than a page, so that several calls go side by side."""
    queue.hide_for(30)
    queue.put(*(signed(authority, number) for number in range(25)))
    reader, room = queue.reader(), Room()

    while len(room.learnt) < 25:
        reader.take(room, pool)

    assert {one.recipient for one in room.learnt} == {f"user{n}@example.net" for n in range(25)}
    assert {one.type for one in room.learnt} == {EventType.DELIVERY}
    assert len({one.source_event_id for one in room.learnt}) == 25
    assert queue.left() == 0


def crash(queue: Filled, authority: Authority, pool: ThreadPoolExecutor, kind: type[Queue]) -> Room:
    """The process ends before the events are on disk; another takes over."""
    queue.put(signed(authority))
    with pytest.raises(KeyboardInterrupt):
        queue.reader(kind).take(Room(KeyboardInterrupt()), pool)
    room = Room()
    if queue.left():
        queue.reader(kind).take(room, pool)
    return room


def test_a_crash_before_the_commit_loses_nothing(
    queue: Filled, authority: Authority, pool: ThreadPoolExecutor
) -> None:
    assert len(crash(queue, authority, pool, Queue).learnt) == 1


def test_a_crash_loses_what_was_deleted_first(
    queue: Filled, authority: Authority, pool: ThreadPoolExecutor
) -> None:
    """The control: deleted before it is on disk."""
    assert crash(queue, authority, pool, Careless).learnt == []


UNTRUSTED: dict[str, tuple[Callable[[Authority], str], str]] = {
    "raw delivery": (lambda _: delivery(1), "turn raw delivery off"),
    "not JSON": (lambda _: "hello", "turn raw delivery off"),
    "forged": (lambda a: signed(a).replace("ses-0", "ses-9"), "Signature"),
    "other topic": (lambda a: signed(a, TopicArn=f"{TOPIC_ARN}-2"), "not among SNS_TOPIC_ARNS"),
    "too old": (
        lambda a: signed(a, Timestamp=_ago(MAX_AGE + timedelta(minutes=1))),
        "too far from this machine's time",
    ),
}


def _ago(age: timedelta) -> str:
    return (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@pytest.mark.parametrize("kind", UNTRUSTED)
def test_what_cant_be_trusted_goes_to_the_dead_letter_queue(
    queue: Filled, authority: Authority, pool: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture, kind: str,
) -> None:  # fmt: skip
    made, reason = UNTRUSTED[kind]
    queue.put(made(authority), signed(authority, 7))
    reader, room = queue.reader(), Room()

    with caplog.at_level(logging.INFO, "mailer.ses"):
        for _ in range(2):
            reader.take(room, pool)
        queue.put(signed(authority, 8))
        reader.take(room, pool)

    assert [one.recipient for one in room.learnt] == ["user7@example.net", "user8@example.net"]
    assert queue.left() == 0
    assert queue.left(queue.dead_url) == 1
    (line,) = [record.getMessage() for record in caplog.records if reason in record.getMessage()]
    assert "left to the dead-letter queue" in line
    assert "example.net" not in caplog.text


def test_what_waited_for_thirteen_days_is_believed(
    queue: Filled, authority: Authority, pool: ThreadPoolExecutor
) -> None:
    queue.put(signed(authority, Timestamp=_ago(timedelta(days=13))))
    room = Room()
    queue.reader().take(room, pool)
    assert len(room.learnt) == 1


def test_what_cant_be_judged_now_stays_and_the_rest_goes_on(
    queue: Filled, authority: Authority, pool: ThreadPoolExecutor
) -> None:
    new = "SimpleNotificationService-11111111111111111111111111111111.pem"
    later = Authority(authority.directory, authority.key, new)
    queue.put(signed(later, 1), signed(authority, 2))
    reader, room = queue.reader(), Room()

    with pytest.raises(ConnectionError, match="SNS_CERT_DIR has no"):
        reader.take(room, pool)
    assert [one.recipient for one in room.learnt] == ["user2@example.net"]

    authority.issue(new, "sns.amazonaws.com")
    reader.take(room, pool)
    assert [one.recipient for one in room.learnt][1:] == ["user1@example.net"]
    assert queue.left() == 0


def test_while_nothing_can_be_stored_it_waits_with_what_it_has(
    queue: Filled, authority: Authority, pool: ThreadPoolExecutor
) -> None:
    """To receive it again would bring it nearer to the dead-letter queue."""
    queue.put(signed(authority))
    room = Room(StoreUnavailable("the disk is full"))
    reader = queue.reader(Counting)

    reader.take(room, pool)

    assert len(room.learnt) == 1
    assert isinstance(reader, Counting)
    assert reader.receives == 1
    assert queue.left() == 0


def test_faults_of_the_network_back_off(queue: Filled, caplog: pytest.LogCaptureFixture) -> None:
    """Tried at once, after 1 s and after 3 s; a stop is not kept waiting."""
    nobody = boto3.client(
        "sqs",
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{free_port()}",
        config=Config(retries={"total_max_attempts": 1}),
    )
    room = Room()
    reader = Counting(nobody, queue.url, partial(_read, queue.settings))
    running = threading.Thread(target=reader.run, args=(room,), daemon=True)
    began_s = time.monotonic()
    running.start()
    until(lambda: reader.receives == 3, within_s=20)
    assert time.monotonic() - began_s > 2.9

    room.stop()
    running.join(1)
    assert not running.is_alive()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "events wait in the queue: Could not connect" in caplog.text


class Counting(Queue):
    receives = 0

    def _receive(self, wait_s: int) -> list[Message]:
        self.receives += 1
        return super()._receive(wait_s)


def test_a_queue_without_a_topic_stops_the_start() -> None:
    queue = {"SQS_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/q"}
    with pytest.raises(SettingsError, match="SNS_TOPIC_ARNS: is not set, so that no message"):
        mailer_ses.mailer_workers(settings=load(queue, of_plugins=[SesSettings]))
    assert mailer_ses.mailer_workers(settings=load({}, of_plugins=[SesSettings])) == {}


@pytest.mark.parametrize(
    "url",
    ["mailer-events", "arn:aws:sqs:eu-central-1:123456789012:q", "https://sqs.x.amazonaws.com/1/q"],
)
def test_what_is_no_queue_is_named(url: str) -> None:
    with pytest.raises(SettingsError, match="SQS_QUEUE_URL: not the URL of an SQS queue"):
        load({"SQS_QUEUE_URL": url}, of_plugins=[SesSettings])

"""SES's topic fills a queue; the worker empties it, and is killed between any two of its calls."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from mailer_ses.setup import queue_url

from tests.process.harness import Mailer, addresses
from tests.ses.authority import Authority
from tests.ses.between import DELETE, RECEIVE, Between
from tests.ses.cloud import Cloud, set_up
from tests.ses.events import event, mail_object, now
from tests.ses.harness import FakeSes
from tests.ses.test_setup import BY_QUEUE
from tests.waiting import until

WORKER = "worker ses-queue"


class Installed:
    """A running mailer whose worker reads the queue that `mailer ses setup` made."""

    def __init__(self, cloud: Cloud, between: Between, mailer: Mailer) -> None:
        self.cloud = cloud
        self.between = between
        self.mailer = mailer

    def sent(self, topic: str, mails: int) -> list[str]:
        """So many mails of a topic, handed over; their ids."""
        ids = self.mailer.accepted(*addresses(mails), topic_id=topic)
        until(self.mailer.finished, within_s=20)
        return ids

    def publish(self, mails: list[str]) -> None:
        """SES says that these were delivered."""
        sns = self.cloud.client("sns")
        for mail in mails:
            about = mail_object(f"ses-{mail}", "x@example.com", {"mailer_request_id": [mail]})
            delivery = {"timestamp": now(), "recipients": ["x@example.com"]}
            message = event("Delivery", about, delivery=delivery)
            sns.publish(TopicArn=BY_QUEUE.topic_arn, Message=message)

    def delivered(self, topic: str) -> int:
        count: int = self.mailer.topic(topic)["result_counts"]["Delivery"]
        return count

    def left(self) -> int:
        queue = self.cloud.queue(BY_QUEUE.name)
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(int(queue[name]) for name in names)


def signed_over(authority: Authority, operation: str, content: bytes) -> bytes:
    """Moto signs with a key that nobody vouches for; the authority's takes its place."""
    if operation != RECEIVE:
        return content
    answer: dict[str, Any] = json.loads(content)
    for message in answer.get("Messages", []):
        body = json.dumps(authority.sign(json.loads(message["Body"])))
        message |= {"Body": body, "MD5OfBody": hashlib.md5(body.encode()).hexdigest()}
    return json.dumps(answer).encode()


@pytest.fixture(scope="module")
def installed(
    ses_process: FakeSes, moto_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    cloud = Cloud(moto_url, ses_process.url)
    ses_process.forget()
    cloud.reset()
    directory = tmp_path_factory.mktemp("queue")
    authority = Authority.make(directory)
    between = Between(moto_url, partial(signed_over, authority))
    aws = cloud.clients()
    set_up(aws, BY_QUEUE)
    url = queue_url(aws, BY_QUEUE)
    aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "1"})
    settings: dict[str, Any] = {
        **cloud.environ,
        "AWS_ENDPOINT_URL_SQS": between.url,
        "MAX_SEND_PER_SECOND": "unlimited",
        "SQS_QUEUE_URL": url,
        "SNS_TOPIC_ARNS": BY_QUEUE.topic_arn,
        "SNS_CERT_DIR": str(directory),
    }
    mailer = Mailer(directory, **settings)
    try:
        yield Installed(cloud, between, mailer)
        mailer.assert_sound()
    finally:
        mailer.end()
        between.stop()


def test_from_topic_to_mail(installed: Installed) -> None:
    mails = installed.sent("life", 20)
    installed.publish(mails)

    until(lambda: installed.delivered("life") == 20, within_s=30)
    until(lambda: installed.left() == 0)


@pytest.mark.parametrize(
    ("operation", "forwarded", "known"),
    [(RECEIVE, True, 0), (DELETE, False, 1), (DELETE, True, 1)],
    ids=["received", "stored", "deleted"],
)
def test_killed_between_two_calls(
    installed: Installed, operation: str, forwarded: bool, known: int
) -> None:
    """Nothing is lost and nothing counted twice, wherever the worker ends."""
    topic = f"{operation}-{forwarded}"
    mails = installed.sent(topic, 1)
    killed = installed.mailer.children()[WORKER]
    with installed.between.hold(operation, forwarded=forwarded):
        installed.publish(mails)
        installed.between.until_held()
        assert installed.delivered(topic) == known
        assert (installed.left() > 0) == (not (forwarded and operation == DELETE))
        installed.mailer.kill(killed)
        until(lambda: installed.mailer.children().get(WORKER, killed) != killed)

    until(lambda: installed.delivered(topic) == 1, within_s=30)
    until(lambda: installed.left() == 0, within_s=30)
    assert installed.delivered(topic) == 1
    assert installed.mailer.states() == {"delivered": sum(installed.mailer.states().values())}


def test_it_ends_when_told_though_it_polls(installed: Installed) -> None:
    """Within the 9 s that it has: SQS would answer later than that."""
    with installed.between.hold(RECEIVE, forwarded=False):
        installed.between.until_held()
        worker = installed.mailer.children()[WORKER]
        assert installed.mailer.stop() == 0
    assert f"{WORKER} (pid {worker}) ended with status 0" in installed.mailer.log

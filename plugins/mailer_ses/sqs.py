"""Reads SES's events from an SQS queue that an SNS topic fills: `SQS_QUEUE_URL`.

Each message is believed and translated as one that SNS posts, and deleted only when what it tells
is on disk; whatever ends this process before, it is received again and known by its id. One that
can't be trusted is never deleted here: the queue moves it to its dead-letter queue.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from mailer.errors import ApprovalNeeded, InvalidRequest, MailerError, StoreUnavailable
from mailer.hookspecs import Access, ProviderEvent
from mailer.settings import Settings
from mailer_ses import sns
from mailer_ses.account import Account, session
from mailer_ses.notifications import received
from mailer_ses.settings import SesSettings

log = logging.getLogger("mailer.ses")

MAX_AGE: Final = timedelta(days=14) + sns.MAX_AGE
"""No queue keeps a message for longer than 14 days."""
PAGE: Final = 10
"""So many messages SQS gives or deletes in one call."""
PAGES_AT_ONCE: Final = 8
"""Calls side by side while the queue is full."""
POLL_S: Final = 20
"""The longest that SQS waits for a message before it answers that there is none."""
LONGEST_PAUSE_S: Final = 60.0

Read = Callable[[bytes], Sequence[ProviderEvent]]
"""A message's body → the events told. Raises InvalidRequest for good, OSError for now."""


def receive(settings: Settings, access: Access) -> None:
    """The worker: returns when it is to stop."""
    url = str(settings.of(SesSettings).queue_url)
    account = Account.required(settings)
    account = replace(account, region=region_of(url) or account.region)
    config = Config(
        connect_timeout=5,
        read_timeout=POLL_S + 15,
        retries={"total_max_attempts": 1},
        max_pool_connections=PAGES_AT_ONCE,
    )
    Queue(session(account).client("sqs", config=config), url, partial(_read, settings)).run(access)


def region_of(url: str) -> str | None:
    """The region of a queue at AWS; None when its URL does not name one."""
    match = re.match(r"https://sqs\.([a-z0-9-]+)\.", url)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class Message:
    """One message as SQS gave it this time."""

    id: str
    handle: str
    body: bytes
    receives: int


class Queue:
    """One queue, and how its messages are read."""

    def __init__(self, sqs: Any, url: str, read: Read) -> None:
        self._sqs = sqs
        self._url = url
        self._read = read
        self._busy = False

    def run(self, access: Access) -> None:
        """Until it is to stop. What goes wrong is said once, and tried again ever later."""
        faults = 0
        with ThreadPoolExecutor(PAGES_AT_ONCE) as side_by_side:
            while not access.stopping:
                try:
                    self.take(access, side_by_side)
                except (OSError, BotoCoreError, ClientError) as error:
                    faults += 1
                    if faults == 1:
                        log.warning("ses: events wait in the queue: %s", error)
                    _pause(access, min(2.0 ** (faults - 1), LONGEST_PAUSE_S))
                else:
                    if faults:
                        log.info("ses: events are read from the queue again")
                    faults = 0

    def take(self, access: Access, side_by_side: ThreadPoolExecutor) -> None:
        """Receive, believe, store, delete: in this order, so that nothing is lost between.

        Raises BotoCoreError or ClientError when SQS can't be asked, OSError when a message can't
        be judged now; it stays in the queue.
        """
        given = self._many(side_by_side) if self._busy else self._poll(access)
        self._busy = len(given) >= PAGE
        told: list[ProviderEvent] = []
        known: list[Message] = []
        undecided: OSError | None = None
        for message in given:
            try:
                told += self._read(message.body)
            except (InvalidRequest, ApprovalNeeded) as error:
                _refuse(message, error)
            except OSError as error:
                undecided = error
            except Exception:  # a fault of ours: the messages beside it must not wait for it
                log.exception("ses: message %s of the queue can't be read", message.id)
            else:
                known.append(message)
        if known and self._stored(access, told):
            list(side_by_side.map(self._delete, _paged(known)))
        if undecided is not None:
            raise undecided

    def _many(self, side_by_side: ThreadPoolExecutor) -> list[Message]:
        pages = list(side_by_side.map(self._receive, [0] * PAGES_AT_ONCE))
        return [message for page in pages for message in page]

    def _poll(self, access: Access) -> list[Message]:
        """Wait for messages in a thread apart, which a stop leaves behind.

        What it may still be given is hidden for the queue's visibility time-out, no longer.
        """
        answer: Future[list[Message]] = Future()

        def poll() -> None:
            try:
                answer.set_result(self._receive(POLL_S))
            except Exception as error:
                answer.set_exception(error)
            access.wake()

        threading.Thread(target=poll, name="poll", daemon=True).start()
        while not answer.done() and not access.stopping:
            access.wait(POLL_S)
        return answer.result() if answer.done() else []

    def _receive(self, wait_s: int) -> list[Message]:
        answer = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=PAGE,
            WaitTimeSeconds=wait_s,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return [
            Message(
                one["MessageId"],
                one["ReceiptHandle"],
                one["Body"].encode(),
                int(one.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            )
            for one in answer.get("Messages", [])
        ]

    def _stored(self, access: Access, told: Sequence[ProviderEvent]) -> bool:
        """Whether all is on disk; waits while it can't be written, False if it is to stop then.

        To receive again meanwhile would only bring the messages nearer to the dead-letter queue.
        """
        faults = 0
        while not access.stopping:
            try:
                access.learn(told)
            except StoreUnavailable as error:
                faults += 1
                if faults == 1:
                    log.warning("ses: events wait in the queue: %s", error)
                _pause(access, min(2.0 ** (faults - 1), LONGEST_PAUSE_S))
            else:
                return True
        return False

    def _delete(self, messages: Sequence[Message]) -> None:
        """One that SQS keeps nevertheless comes again, and is known then."""
        entries = [{"Id": str(n), "ReceiptHandle": m.handle} for n, m in enumerate(messages)]
        self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)


def _read(settings: Settings, body: bytes) -> Sequence[ProviderEvent]:
    events = received(settings, {}, body, datetime.now(UTC), MAX_AGE)
    if events is None:
        raise sns.refusal(
            "body",
            "is not in SNS's envelope, without which there is no signature: turn raw delivery off"
            " for the subscription (mailer ses setup --sqs does)",
        )
    return events


def _refuse(message: Message, error: MailerError) -> None:
    """Say it the first time. It comes again until the queue gives it up."""
    level = logging.WARNING if message.receives == 1 else logging.DEBUG
    log.log(
        level,
        "ses: message %s of the queue can't be trusted and is left to the dead-letter queue: %s",
        message.id,
        error,
    )


def _pause(access: Access, seconds: float) -> None:
    """Whatever else is stored meanwhile."""
    until_s = time.monotonic() + seconds
    while not access.stopping and (left_s := until_s - time.monotonic()) > 0:
        access.wait(left_s)


def _paged(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    for first in range(0, len(messages), PAGE):
        yield messages[first : first + PAGE]

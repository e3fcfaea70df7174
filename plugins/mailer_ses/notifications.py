"""What to do with a message of SNS that has proved genuine: learn, confirm, or warn."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

from mailer.hookspecs import ProviderEvent
from mailer.settings import Settings
from mailer_ses import events, sns
from mailer_ses.certificates import Certificates
from mailer_ses.settings import SesSettings

log = logging.getLogger("mailer.ses")

TIMEOUT_S: Final = 4.0


def received(
    settings: Settings,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    max_age: timedelta = sns.MAX_AGE,
) -> Sequence[ProviderEvent] | None:
    """The events told; None when it is not SNS's. Raises InvalidRequest or OSError, see `sns`."""
    ours = settings.of(SesSettings)
    found = sns.verified(
        headers,
        body,
        topic_arns=ours.topic_arns,
        key_of=partial(_certificates(ours.cert_dir).key, now=now),
        now=now,
        max_age=max_age,
    )
    if found is None:
        return None
    message, topic = found
    if message.type == sns.CONFIRMATION:
        confirm(message, topic)
        return []
    if message.type == sns.FAREWELL:
        log.warning(
            "ses: SNS no longer tells us of %s: the subscription was deleted; subscribe this"
            " server's /v1/events/results again if that was not meant",
            message.topic_arn,
        )
        return []
    sent = datetime.fromisoformat(message.timestamp).astimezone(UTC)
    return events.translated(message.message, sns_message_id=message.message_id, at=sent)


def confirm(message: sns.Message, topic: sns.Topic) -> None:
    """Confirm the subscription, by SNS's own call with the token that was signed.

    Raises InvalidRequest when SNS does not take the token, OSError when it can't be asked now.
    """
    import boto3  # only now: every API worker would carry it else
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.session.Session().client(
        "sns",
        region_name=topic.region,
        config=Config(
            signature_version=UNSIGNED,
            connect_timeout=TIMEOUT_S,
            read_timeout=TIMEOUT_S,
            retries={"total_max_attempts": 1},
        ),
    )
    try:
        client.confirm_subscription(TopicArn=message.topic_arn, Token=message.token)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        words = f"{error.response['Error'].get('Code')}: {error.response['Error'].get('Message')}"
        if status >= 500 or status == 429 or "Throttl" in words:
            raise ConnectionError(f"SNS can't confirm now: {words}") from None
        raise sns.refusal("Token", f"SNS does not take it: {words}") from None
    except BotoCoreError as error:
        raise ConnectionError(f"SNS can't be asked to confirm: {error}") from None
    log.info("ses: the subscription to %s is confirmed", message.topic_arn)


@lru_cache(maxsize=4)
def _certificates(directory: Path | None) -> Certificates:
    """Kept between notifications: SNS signs with the same certificate for months."""
    return Certificates(directory)

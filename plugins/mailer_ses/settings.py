"""The variables of the ses plugin: AWS's own names, which boto3 knows too, and ours beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mailer.variables import path, setting, several, switch, text


def _topic_arn(value: str) -> str:
    if not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[\w.-]{1,256}", value):
        raise ValueError(f"{value[:300]!r} is no SNS topic ARN")
    return value


def _queue_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+/[0-9]{12}/[\w-]{1,80}", value):
        raise ValueError("not the URL of an SQS queue")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SesSettings:
    prefixes: ClassVar = ("AWS_", "SES_", "SNS_", "SQS_")

    region: str | None = setting(
        "AWS_REGION",
        default=None,
        parse=text,
        accepted="a region, as eu-central-1",
        doc="For the ses transport.",
    )
    access_key_id: str | None = setting(
        "AWS_ACCESS_KEY_ID",
        default=None,
        secret=True,
        parse=text,
        accepted="an access key id",
        doc="For the ses transport.",
    )
    secret_access_key: str | None = setting(
        "AWS_SECRET_ACCESS_KEY",
        default=None,
        secret=True,
        parse=text,
        accepted="a secret access key",
        doc="For the ses transport.",
    )
    configuration_set: str | None = setting(
        "SES_CONFIGURATION_SET",
        default=None,
        parse=text,
        accepted="the name of a configuration set",
        doc="For the ses transport: the set that publishes its events.",
    )
    bulk: bool = setting(
        "SES_BULK",
        default=True,
        parse=switch,
        accepted="1 or 0",
        doc="For the ses transport: send up to 50 mails in one call where their content allows.",
    )
    topic_arns: tuple[str, ...] = setting(
        "SNS_TOPIC_ARNS",
        default=(),
        parse=several(_topic_arn),
        accepted="arn:aws:sns:REGION:ACCOUNT:NAME, several separated by commas",
        doc="The SNS topics by which SES tells what became of mail; no other is believed.",
    )
    queue_url: str | None = setting(
        "SQS_QUEUE_URL",
        default=None,
        parse=_queue_url,
        accepted="https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
        doc="A queue that one of these topics fills, and that mailer reads.",
    )
    cert_dir: Path | None = setting(
        "SNS_CERT_DIR",
        default=None,
        parse=path,
        accepted="a directory of PEM files",
        doc="Certificates to check SNS messages with, instead of those fetched from AWS:"
        " for tests and closed networks.",
    )

"""Amazon SES: the ses transport, and what SES tells of its mails through Amazon SNS.

Credentials are found as boto3 finds them (environment, shared files, instance role), unless
`.env` holds AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. `transport` sends; `sns` verifies what
comes in, `events` translates it; `sqs` fetches it from a queue; `commands` are for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import click

from mailer.errors import SettingFault, SettingsError
from mailer.hookspecs import Access, Check, ProviderEvent, Transport, Worker, hookimpl
from mailer.settings import Settings
from mailer_ses.settings import SesSettings

__all__ = [
    "mailer_checks",
    "mailer_commands",
    "mailer_notifications",
    "mailer_settings",
    "mailer_transports",
    "mailer_workers",
]

# Each hook imports what it needs: boto3 and cryptography cost every command half a second.


@hookimpl
def mailer_settings() -> type:
    return SesSettings


@hookimpl
def mailer_transports(settings: Settings) -> Mapping[str, Transport]:
    if "ses" not in settings.ways.names and not settings.asks_for_ses:
        return {}
    from mailer_ses.account import Account
    from mailer_ses.transport import SesTransport

    account = Account.from_settings(settings)
    return {"ses": SesTransport(account)} if account else {}


@hookimpl
def mailer_notifications(
    settings: Settings, headers: Mapping[str, str], body: bytes
) -> Sequence[ProviderEvent] | None:
    from mailer_ses.notifications import received

    return received(settings, headers, body, datetime.now(UTC))


@hookimpl
def mailer_commands(cli: click.Group) -> None:
    from mailer_ses.commands import add_options, ses

    cli.add_command(ses)
    add_options(cli)


@hookimpl
def mailer_checks(settings: Settings) -> Sequence[Check]:
    if "ses" not in settings.ways.names and not settings.asks_for_ses:
        return []
    from mailer_ses import checks, route_checks

    return [*checks.look(settings, datetime.now(UTC)), *route_checks.look(settings)]


@hookimpl
def mailer_workers(settings: Settings) -> Mapping[str, Worker]:
    ours = settings.of(SesSettings)
    if ours.queue_url is None:
        return {}
    if not ours.topic_arns:
        problem = "is not set, so that no message in SQS_QUEUE_URL would be believed"
        accepted = "the ARN of the topic that fills the queue"
        raise SettingsError([SettingFault("SNS_TOPIC_ARNS", problem, accepted)])

    def read_queue(access: Access) -> None:
        from mailer_ses.sqs import receive

        receive(settings, access)

    return {"ses-queue": read_queue}

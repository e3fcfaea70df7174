"""One AWS account in one region: how it is configured, and how it is called.

A call is answered, refused by the service, not sent at all, or without an answer; which of the
last two is not guessed from the error but seen: the client notes when the request's body is taken.
botocore's own retries are off, for they would send again what may have been sent.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import boto3
import msgspec
from boto3.session import Session
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from mailer.errors import MailerError, SettingFault, SettingsError, TransportUnreachable
from mailer.settings import Settings
from mailer_ses.settings import SesSettings

_NO_REGION: Final = SettingFault(
    "AWS_REGION",
    "the ses transport has no region to send from",
    "the region whose SES your From address is verified in, as eu-central-1",
)


class Refused(MailerError):
    """The service answered no; or the call was never made, for want of credentials."""

    def __init__(self, code: str, words: str, status: int) -> None:
        self.code = code
        self.words = " ".join(words.split())
        self.status = status
        super().__init__(f"{code}: {self.words}")


class NotSent(MailerError):
    """No byte of the request's body left this machine."""


class NoAnswer(MailerError):
    """The request may have arrived; what became of it is not known."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the settings say of the account to send with."""

    region: str
    from_email: str
    """The From of mails that name none."""
    access_key_id: str | None = None
    secret_access_key: str | None = None
    """Without them, boto3 looks for credentials where it always does."""
    configuration_set: str | None = None
    bulk: bool = True
    """False: never SendBulkEmail."""
    tells_events: bool = False
    """True when SES's events reach us, so that an unknown outcome can wait for them."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    """The longest wait for the next byte of an answer."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Account | None:
        """None without a region; SettingsError if mail is to go by SES nevertheless."""
        ours = settings.of(SesSettings)
        region = ours.region or Session().region_name
        if region is None:
            if "ses" not in settings.ways.names:
                return None
            raise SettingsError([_NO_REGION])
        # From the environment boto3 takes them itself, with the session token that may belong
        # to them; those of a file it can't know.
        origin = settings.chosen_because.get("AWS_ACCESS_KEY_ID", "")
        from_file = "environment" not in origin
        return cls(
            region=region,
            from_email=settings.default_from,
            access_key_id=ours.access_key_id if from_file else None,
            secret_access_key=ours.secret_access_key if from_file else None,
            configuration_set=ours.configuration_set,
            bulk=ours.bulk,
            tells_events=bool(ours.topic_arns),
        )

    @classmethod
    def required(cls, settings: Settings) -> Account:
        """For who asks for SES by name. Raises SettingsError without a region."""
        account = cls.from_settings(settings)
        if account is None:
            raise SettingsError([_NO_REGION])
        return account


class Client:
    """boto3's client for one account, usable by many threads at once."""

    def __init__(self, account: Account, *, connections: int) -> None:
        """May use the network: credentials can come from the machine's metadata service.

        Raises TransportUnreachable when the region or the credentials' source is not there.
        """
        self.account = account
        try:
            self._boto = _boto_client(account, connections)
        except (BotoCoreError, ValueError) as error:
            raise TransportUnreachable(f"boto3 can't be set up: {error}") from None
        self._thread = threading.local()
        self._boto.meta.events.register("before-call.sesv2", self._write)
        self._boto.meta.events.register("before-send.sesv2", self._watch)

    def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make one call; the answer's members. Raises Refused, NotSent or NoAnswer.

        All of `request` travels in the body, as it does in the calls that send.
        """
        return self._made(operation, body=request, members={})

    def ask(self, operation: str, **members: Any) -> dict[str, Any]:
        """Any other call, whose members botocore puts into path, query or body; as `call`."""
        return self._made(operation, body={}, members=members)

    def _made(
        self, operation: str, *, body: Mapping[str, Any], members: Mapping[str, Any]
    ) -> dict[str, Any]:
        self._thread.body = None
        self._thread.request = body
        try:
            answer: dict[str, Any] = getattr(self._boto, operation)(**members)
        except ClientError as error:
            said = error.response
            status = said.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            described = said.get("Error", {})
            raise Refused(described.get("Code", ""), described.get("Message", ""), status) from None
        except Exception as error:
            raise self._classified(error) from None
        return answer

    def _classified(self, error: Exception) -> MailerError:
        body: _Body | None = self._thread.body
        if body is not None:
            name = type(error).__name__
            return NoAnswer(f"{error}" or name) if body.taken else NotSent(f"{error}" or name)
        if isinstance(error, BotoCoreError):
            # Before a request is made botocore looks for credentials and signs.
            return Refused(type(error).__name__, f"{error}", 0)
        return NotSent(f"{type(error).__name__}: {error}")

    def _write(self, params: dict[str, Any], **_: object) -> None:
        """Called when botocore has written a request, of no members, and is about to sign it.

        Writing them by the service's description would take half of a bulk call's CPU time. What
        comes out of it is JSON; the fake of the tests holds ours to the description.
        """
        if self._thread.request:
            params["body"] = msgspec.json.encode(self._thread.request)

    def _watch(self, request: AWSPreparedRequest, **_: object) -> None:
        """Called with each request when it is signed and about to be sent."""
        self._thread.body = body = _Body(request.body or b"")
        if request.body:
            request.body = body


def session(account: Account) -> Session:
    """boto3's session with the account's credentials. Raises BotoCoreError or ValueError."""
    for name in ("boto3", "botocore", "urllib3"):
        # They tell of every start, and at DEBUG of every request, mail and all.
        logging.getLogger(name).setLevel(logging.WARNING)
    return boto3.session.Session(
        aws_access_key_id=account.access_key_id,
        aws_secret_access_key=account.secret_access_key,
        region_name=account.region,
    )


def _boto_client(account: Account, connections: int) -> Any:
    return session(account).client(
        "sesv2",
        config=Config(
            connect_timeout=account.connect_timeout_s,
            read_timeout=account.read_timeout_s,
            retries={"total_max_attempts": 1},
            max_pool_connections=connections,
            tcp_keepalive=True,
            parameter_validation=False,  # dear, and it would see nothing: `_write` comes later
        ),
    )


class _Body:
    """A request's body that knows whether the connection has begun to take it."""

    def __init__(self, content: bytes | str) -> None:
        self._content = content.encode() if isinstance(content, str) else content
        self.taken = False

    def __iter__(self) -> Iterator[bytes]:
        self.taken = True
        yield self._content

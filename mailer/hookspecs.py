"""What a plugin can do for mailer, and the values that pass between them.

A plugin is a module or object registered under the entry-point group `mailer` with functions
marked `@mailer.hookspecs.hookimpl`. First-party plugins come in by the same door.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pluggy

from mailer.mail import Attachment
from mailer.vocabulary import EventType, OutcomeKind

if TYPE_CHECKING:
    import click

    from mailer.settings import Settings

hookspec = pluggy.HookspecMarker("mailer")
hookimpl = pluggy.HookimplMarker("mailer")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One mail, composed and ready: a transport adds nothing to it and changes nothing in it."""

    request_id: str
    """The mail's id, unique for ever; characters `[0-9a-z-]`."""
    created_at_ms: int
    """When the mail was accepted; the same at every attempt."""
    message_id: str
    """The Message-ID header with its angle brackets; the same at every attempt."""
    from_email: str
    """The From header: an address, or `Name <address>`."""
    recipient: str
    """The bare address."""
    recipient_name: str
    subject: str
    html: str | None
    text: str | None
    reply_to: str | None = None
    topic_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    headers: Sequence[tuple[str, str]] = ()
    """Further headers, the caller's and List-Unsubscribe, checked against injection."""
    attachments: Sequence[Attachment] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transport says of one attempt.

    accepted: the provider took it. rejected: it never will. deferred: perhaps later, for this
    mail. throttled: the transport as a whole is too fast; costs no attempt. unknown: the call
    ended in a way that leaves open whether the mail was taken.
    """

    kind: OutcomeKind
    detail: str = ""
    """The provider's words, kept with the attempt; shown to the operator."""
    provider_id: str | None = None
    """The provider's id of the mail, by which its later events name it."""
    retry_after_s: float | None = None
    """For throttled and deferred: the wait the provider asked for."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What the provider allows now. None: it has no such limit, or does not say."""

    max_per_second: float | None = None
    max_24h: int | None = None
    sent_24h: int | None = None


class Session(Protocol):
    """One connection to the provider, used by one thread at a time."""

    def send(self, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        """Hand over at most `batch_size` mails; one outcome for each, in their order.

        Whatever goes wrong with a mail is an outcome. `errors.TransportUnreachable` says that the
        connection is gone and nothing was handed over: the mails wait, no attempt is used, and a
        new session is opened. Any other exception counts as `unknown` for every mail.
        """

    def close(self) -> None:
        """Give the connection back; must not raise."""


class Transport(Protocol):
    """A way out for mail. Made once in each sender process."""

    batch_size: int
    """How many recipients one `send` takes; 1 for most."""
    max_in_flight: int
    """How many sessions one sender process may use at once."""
    call_timeout_s: float
    """No `send` lasts longer; a sender that sees one do so gives the mail up as unknown."""
    reports_events: bool
    """True when the provider tells later what it took, so that an unknown outcome can wait."""

    def open(self) -> Session:
        """Connect. Called before a slot of the rate is taken, so that none is spent waiting.

        Raises `errors.TransportUnreachable` or `OSError` when the provider can't be reached; it
        is tried again every few seconds, and mail waits meanwhile.
        """

    def quota(self) -> Quota:
        """Ask the provider for its limits; may use the network; called by a duty, not a sender.

        Raises `errors.TransportUnreachable` or `OSError` when it can't be asked.
        """


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """One thing a provider tells of one mail, translated; the original stays in `raw`."""

    type: EventType
    at_ms: int
    source: str
    """The plugin's name."""
    source_event_id: str
    """The provider's id of this event: the same event told twice is stored once."""
    request_id: str | None = None
    """Our id, when the provider carried it (a tag, a header)."""
    provider_id: str | None = None
    """The provider's id of the mail, else."""
    recipient: str | None = None
    permanent: bool = False
    """For a bounce: the address is dead and is to be suppressed."""
    automated: bool = False
    """For an open or click: made by a machine, not a person."""
    detail: str = ""
    raw: str = ""


@hookspec
def mailer_transports(settings: Settings) -> Mapping[str, Transport]:  # type: ignore[empty-body]
    """Name the transports that these settings configure.

    Called once in each process that needs them. Must not touch the network. A transport whose
    settings are absent is left out; one whose settings are wrong raises `SettingsError`.
    """


@hookspec(firstresult=True)
def mailer_notifications(
    settings: Settings, headers: Mapping[str, str], body: bytes
) -> Sequence[ProviderEvent] | None:
    """Verify and translate a provider's callback (`POST /v1/events/results`).

    Header names are lower case. Return None when it is not from your provider, the events it
    tells (perhaps none) when it is genuine. Raise `InvalidRequest` when it claims to be from
    your provider and can't be trusted: nothing of it is stored. Raise OSError when it can't be
    judged now (a certificate can't be fetched): the provider is answered 503 and tells it again.
    """


@hookspec
def mailer_commands(cli: click.Group) -> None:
    """Add commands to the command line, as `cli.add_command(...)`.

    Called once when `mailer` starts, whichever command it is to run: import what costs time only
    when a command of yours runs. Its click object (`@click.pass_obj`) is the function that reads
    and checks the settings. Any `MailerError` is told as one sentence, with exit status 1.
    """

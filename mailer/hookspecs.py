"""What a plugin can do for mailer, and the values that pass between them.

A plugin is a module or object registered under the entry-point group `mailer` with functions
marked `@mailer.hookspecs.hookimpl`. First-party plugins come in by the same door.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import pluggy

from mailer.access import Access as Access
from mailer.access import Shelf as Shelf
from mailer.access import Worker as Worker
from mailer.mail import Attachment
from mailer.vocabulary import CheckResult, EventType, OutcomeKind

if TYPE_CHECKING:
    import click

    from mailer.endpoints import Endpoint
    from mailer.settings import Settings

HOOK_API: Final = 1
"""The version of what plugins may use: the hooks below, and the public names of these modules."""
# fmt: off
PUBLIC_MODULES: Final = (
    "endpoints", "errors", "hookspecs", "mail", "mime", "records", "settings", "testing",
    "variables", "vocabulary",
)
# fmt: on

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
    """For throttled and deferred: the wait the provider asked for. A throttled answer without one
    says that the rate is too high: it is lowered for a while."""
    concerns_all: bool = False
    """For deferred: the provider itself has failed, so that other mail has to wait as well."""
    halts: bool = False
    """For throttled: no mail will be taken until somebody mends what `detail` says."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What the provider allows now. None: it has no such limit, or does not say."""

    max_per_second: float | None = None
    max_24h: int | None = None
    sent_24h: int | None = None
    notice: str = ""
    """What else people should know of the account, as a sentence; shown by `mailer status`."""


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
    destination: str
    """Where mail goes, without secrets; the start says it to the operator."""

    def open(self) -> Session:
        """Connect. Called before a slot of the rate is taken, so that none is spent waiting.

        Raises `errors.TransportUnreachable` or `OSError` when the provider can't be reached; it
        is tried again every few seconds, and mail waits meanwhile, or goes by another transport
        where it may. `errors.TransportHalted` says that somebody has to mend something first.
        To open is to have reached the provider: mail comes back then.
        """

    def quota(self) -> Quota:
        """Ask the provider for its limits; may use the network; called by a duty, not a sender.

        An answer ends what `TransportHalted` said. Raises `errors.TransportUnreachable`,
        `errors.TransportHalted` or `OSError` when it can't be asked.
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
    already_suppressed: bool = False
    """For a bounce or complaint: the provider did not try, for its own list has the address."""
    automated: bool = False
    """For an open or click: made by a machine, not a person."""
    detail: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the event log: something learnt about a mail, or about a whole batch."""

    id: str
    """Its own for ever: the same each time the event is told, here and by the API.

    What stands before its first - is a number that grows with the log.
    """
    type: EventType
    at_ms: int
    """When it happened, by the clock of `source`."""
    mail_id: str | None
    """The mail's `request_id`; None for `accepted`, which tells of all mails of a batch."""
    batch_id: str | None
    topic_id: str | None
    recipient: str | None
    tags: Mapping[str, str]
    source: str
    """Who learnt it: a transport, a plugin, `api`, `queue`, `tracking`."""
    detail: str
    permanent: bool
    """For a bounce: the address is dead."""
    already_suppressed: bool
    """For a bounce or complaint: the provider did not try, for its own list has the address."""
    automated: bool
    """For an open or click: made by a machine, not a person."""
    raw: str
    """What the provider sent, as it came."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `mailer doctor`."""

    name: str
    """What was looked at, as `ses: quota`."""
    result: CheckResult
    finding: str
    """How it stands, with figures."""
    advice: str = ""
    """What to do about a warning or failure, unless the finding says it."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A mail that `mailer doctor --send` sends, and what is to be learnt of it."""

    address: str
    """One that nobody reads; never used twice."""
    transport: str
    expected: EventType


@hookspec
def mailer_settings() -> type:  # type: ignore[empty-body]
    """Declare the plugin's settings: a class, made like `mailer.settings.Settings`.

    A frozen dataclass whose fields come from `mailer.variables.setting`. Its variables begin with
    the plugin's name in capitals and `_`, or with one of the class's own `prefixes`; none may be
    another's. They are checked at the start with all others and shown by `mailer config`;
    `settings.of(YourSettings)` gives the values, wherever a hook is given `settings`.
    """


@hookspec
def mailer_transports(settings: Settings) -> Mapping[str, Transport]:  # type: ignore[empty-body]
    """Name the transports that these settings configure.

    Called once in each process that needs them. Must not touch the network. A transport whose
    settings are absent is left out; one whose settings are wrong raises `SettingsError`. Names have
    letters, digits, `-`, `_` and `.` only. `settings.ways` tells which are to be used.
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
    Raise `ApprovalNeeded` when only the operator can say whether it is to be believed: answered 503
    too, and shown by `mailer status` with the setting that allows it.
    """


@hookspec
def mailer_routes(settings: Settings) -> Sequence[Endpoint]:  # type: ignore[empty-body]
    """Add calls to the API; see `mailer.endpoints.Endpoint`.

    A plugin owns the first segment of its paths below `/v1/`: one that is mailer's or another
    plugin's stops the start. A handler gets the checked request and the plugin's shelf. All of
    mailer waits for a handler that may change something, as for a transaction of its own: it reads
    and changes the shelf and does nothing that takes time. Must not touch the network.
    """


@hookspec
def mailer_commands(cli: click.Group) -> None:
    """Add commands to the command line, as `cli.add_command(...)`.

    Called once when `mailer` starts, whichever command it is to run: import what costs time only
    when a command of yours runs. Its click object (`@click.pass_obj`) is the function that reads
    and checks the settings. Any `MailerError` is told as one sentence, with exit status 1.
    `mailer.records.open_records` gives it your shelf and the event log.
    """


@hookspec
def mailer_workers(settings: Settings) -> Mapping[str, Worker]:  # type: ignore[empty-body]
    """Name the long-running jobs of your plugin; the names are unique among all plugins.

    The supervisor runs each in a process of its own and starts it anew when it ends, after a wait
    that grows from 0.1 s to 10 s when it ends soon. After a crash of the supervisor two may run
    side by side until the older one sees that it is to stop. A process that takes more memory
    than PLUGIN_MEMORY_MB is refused more (MemoryError); of what it prints a little each minute
    reaches the log. Called in the supervisor too: must not touch the network.
    """


@hookspec
def mailer_checks(settings: Settings) -> Sequence[Check]:  # type: ignore[empty-body]
    """Look at what your plugin needs, for `mailer doctor`; a line for each thing.

    May use the network, with time-outs of its own: after 30 s it is reported as not having ended.
    What it raises becomes a line that says so. Leave out what these settings do not ask for, and
    change nothing.
    """


@hookspec
def mailer_event(event: Event, shelf: Shelf) -> None:
    """Hear of each event of the log, in order, each at least once.

    Called in a process of your plugin's own; a new plugin begins at the log's end. What you put on
    the shelf is stored together with the place in the log that was reached; a crash before that
    makes at most the last 100 events come again, with the same ids. No transaction is open while
    you work: of two processes that write the same key of a shelf, the last one wins.

    Whatever you raise is a failure, and so are the end of the process and taking longer than
    PLUGIN_TIMEOUT_S: you are told again after 1 s, 2 s, 4 s, up to a minute. After PLUGIN_TRIES the
    event is put aside (`mailer events dead`) and the next one comes. What you return means
    nothing. Take `event` alone if you keep nothing.
    """


@hookspec
def mailer_idle(settings: Settings, shelf: Shelf) -> bool:  # type: ignore[empty-body]
    """Say whether your plugin has nothing to do until something is put on its shelf.

    Then it costs nothing: its workers are stopped, and what happens meanwhile it is never told.
    From the commit on that puts something on its shelf it is told of all events again, and within
    a second or so its workers run. Asked each second in the supervisor, at last within a
    transaction: read from your shelf alone and quickly. Without this hook, or when it raises, a
    plugin is never idle.
    """


@hookspec
def mailer_status(shelf: Shelf) -> Sequence[str]:  # type: ignore[empty-body]
    """Tell `mailer status` what of your plugin is not as it should be, a sentence for each thing.

    Read from your shelf alone and quickly: with `--watch` it is asked each second.
    """

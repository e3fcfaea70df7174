"""Every error mailer raises on purpose, as one tree; catch at the level that suits you.

MailerError
├── SettingsError          a variable is missing or wrong; carries every fault found
├── PluginError            a plugin is misspelt, missing, or broke its contract
├── RequestError           a caller asked for something that cannot be
│   ├── InvalidRequest     the body or query is wrong; carries every fault
│   ├── NotFound           no such mail, batch or topic
│   ├── Conflict           it exists, but its state does not allow this
│   └── QueueFull          more mail waits than MAX_QUEUED allows
├── RunsAsRoot             root starts what is not for root
├── TransportUnreachable   the provider can't be reached; nothing was handed over
│   └── TransportHalted    it takes no mail until somebody mends something
├── ApprovalNeeded         a provider asks for what only a setting can allow
├── ApiError               the command line was refused by the API it talks to
└── StoreError
    ├── StoreUnavailable   cannot be written for now: disk full, locked, read-only, I/O error
    ├── StoreDamaged       the file is corrupt, foreign, or lost commits
    ├── SchemaMismatch     the schema is older or newer than this program
    └── StoreInUse         another supervisor holds this database
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class MailerError(Exception):
    """The root. `str()` is a sentence meant for the person who has to act on it."""


@dataclass(frozen=True, slots=True)
class SettingFault:
    """One wrong variable: its name, what is wrong, and the form that would be right."""

    name: str
    problem: str
    accepted: str


class SettingsError(MailerError):
    """One or more settings are wrong; all of them are named at once."""

    def __init__(self, faults: Sequence[SettingFault]) -> None:
        self.faults = tuple(faults)
        lines = (f"{f.name}: {f.problem}. Accepted: {f.accepted}" for f in self.faults)
        super().__init__("\n".join(lines))


class PluginError(MailerError):
    """A plugin cannot be used; the sentence names it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a request: where (`messages[0].emails[17]`), a stable code, a sentence."""

    path: str
    code: str
    message: str


class RequestError(MailerError):
    """The caller's request cannot be done."""


class InvalidRequest(RequestError):
    """Well-formed but wrong; every fault is named."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{f.path}: {f.message}" for f in self.faults[:3]))


class NotFound(RequestError):
    """There is no such thing."""


class Conflict(RequestError):
    """There is, but its present state does not allow what was asked."""


class QueueFull(RequestError):
    """More mail waits than MAX_QUEUED allows; try again when some has been sent."""


class RunsAsRoot(MailerError):
    """Root does what is not for root, or not for root on this database."""


class TransportUnreachable(MailerError):
    """The connection is gone and nothing of this call was handed over.

    Raised by a transport's `send`, it costs no attempt: the mail waits until `open` succeeds.
    """


class TransportHalted(TransportUnreachable):
    """The provider takes no mail from us until somebody mends what the sentence says."""


class ApprovalNeeded(MailerError):
    """A provider asks for something that is allowed by adding `value` to the variable `setting`.

    Nobody knows yet who asks: what it carries is bounded and harmless to show.
    """

    def __init__(self, setting: str, value: str, sentence: str) -> None:
        self.setting = setting
        self.value = value
        super().__init__(sentence)


class ApiError(MailerError):
    """The API answered a command with an error, or not at all."""


class StoreError(MailerError):
    """The database cannot serve."""


class StoreUnavailable(StoreError):
    """The database cannot be written or read right now; nothing of this transaction is stored."""


class StoreDamaged(StoreError):
    """The database is corrupt, foreign, or lacks commits it once had; nothing is sent from it."""


class SchemaMismatch(StoreError):
    """The database's schema does not fit this version of mailer."""


class StoreInUse(StoreError):
    """Another supervisor works on this database."""

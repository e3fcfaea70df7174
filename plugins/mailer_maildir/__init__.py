"""The maildir transport: mail becomes files in a Maildir, and nothing leaves the machine.

A mail is written to `tmp`, synced, linked into `new`, and `new` is synced before it counts as
accepted. Its file name is made of the mail alone, so a second hand-over after a crash finds the
first one's file and leaves no second copy (unless a mail reader has moved it on to `cur`).
Format: https://cr.yp.to/proto/maildir.html
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailer import mime, variables
from mailer.hookspecs import Check, Envelope, Outcome, Quota, Transport, hookimpl
from mailer.settings import Settings
from mailer.variables import setting
from mailer.vocabulary import CheckResult, OutcomeKind

_REQUEST_ID: Final = re.compile(r"[0-9a-z-]{1,64}")
_OWN_TMP: Final = re.compile(r"[0-9]+\.[0-9a-z-]+\.mailer\.([0-9]+)")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class MaildirSettings:
    path: Path = setting(
        "MAILDIR_PATH",
        default=Path("maildir"),
        parse=variables.path,
        accepted="a directory",
        doc="Where the maildir transport puts mail.",
    )


@hookimpl
def mailer_settings() -> type:
    return MaildirSettings


@hookimpl
def mailer_transports(settings: Settings) -> Mapping[str, Transport]:
    return {"maildir": MaildirTransport(settings.of(MaildirSettings).path)}


@hookimpl
def mailer_checks(settings: Settings) -> Sequence[Check]:
    if "maildir" not in settings.ways.names:
        return []
    path = settings.of(MaildirSettings).path.absolute()
    place = next(part for part in (path / "tmp", path, *path.parents) if part.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        finding = f"{place} can't be written: {error.strerror}"
        advice = "let MAILDIR_PATH name a directory that mailer's user may write to"
        return [Check("maildir", CheckResult.FAILURE, finding, advice)]
    finding = f"{path} can be written; nothing leaves this machine"
    return [Check("maildir", CheckResult.OK, finding)]


class MaildirTransport:
    """Writes to one Maildir, made when it is missing (directories 0700, files 0600)."""

    batch_size = 10
    """One sync of `new` serves them all; more saves nothing beside the sync of each file."""
    max_in_flight = 2
    call_timeout_s = 60.0
    reports_events = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.destination = f"{path.absolute()}: nothing leaves this machine"

    def open(self) -> MaildirSession:
        """Make the Maildir ready and remove what dead processes left in `tmp`.

        Raises OSError, also when `tmp`, `new` or `cur` is a symbolic link.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("tmp", "new", "cur"):
            (self.path / name).mkdir(mode=0o700, exist_ok=True)
            with _directory(self.path / name) as fd:
                if name == "tmp":
                    _sweep(fd)
        for made in (self.path, self.path.parent):  # else `new` itself may be lost with the power
            with _directory(made.resolve()) as fd:
                os.fsync(fd)
        return MaildirSession(self.path)

    def quota(self) -> Quota:
        return Quota()


class MaildirSession:
    """Holds nothing between calls: there is no connection to lose."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        try:
            with _directory(self._path / "tmp") as tmp, _directory(self._path / "new") as new:
                outcomes = [_deliver(envelope, tmp, new) for envelope in envelopes]
                os.fsync(new)
        except OSError as error:
            # What is in `new` already is found there at the next attempt, and not written twice.
            return [_deferred(error)] * len(envelopes)
        return outcomes

    def close(self) -> None:
        pass


def _deliver(envelope: Envelope, tmp: int, new: int) -> Outcome:
    """Put one mail into `new`; it is durable once `new` is synced."""
    if not _REQUEST_ID.fullmatch(envelope.request_id):
        return Outcome(OutcomeKind.REJECTED, "the request id can't be a file name")
    try:
        message = _message(envelope)
    except ValueError as error:
        return Outcome(OutcomeKind.REJECTED, str(error))
    name = f"{envelope.created_at_ms // 1000}.{envelope.request_id}.mailer"
    accepted = Outcome(OutcomeKind.ACCEPTED, f"new/{name}")
    # The process id keeps a stuck sender and its successor from writing into one file.
    draft = f"{name}.{os.getpid()}"
    try:
        _write(draft, message, tmp)
        os.link(draft, name, src_dir_fd=tmp, dst_dir_fd=new)  # never replaces, as rename would
    except FileExistsError:
        is_file = stat.S_ISREG(os.stat(name, dir_fd=new, follow_symlinks=False).st_mode)
        return accepted if is_file else Outcome(OutcomeKind.DEFERRED, f"new/{name} is no file")
    except OSError as error:
        return _deferred(error)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=tmp)
    return accepted


def _message(envelope: Envelope) -> bytes:
    """The message as a mailbox keeps it: lines end in LF, and the envelope stands on top."""
    _, sender = mime.split_mailbox(envelope.from_email)
    message = mime.build(envelope)  # refuses addresses that could break the next line
    head = f"Return-Path: <{sender}>\nDelivered-To: {envelope.recipient}\n"
    return head.encode("ascii") + message.replace(b"\r\n", b"\n")


def _write(draft: str, message: bytes, tmp: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=tmp)
    with os.fdopen(os.open(draft, _NEW_FILE, 0o600, dir_fd=tmp), "wb") as file:
        file.write(message)
        file.flush()
        os.fsync(file.fileno())


def _sweep(tmp: int) -> None:
    for name in os.listdir(tmp):
        match = _OWN_TMP.fullmatch(name)
        if match and not _lives(int(match[1])):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=tmp)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    fd = os.open(path, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _deferred(error: OSError) -> Outcome:
    return Outcome(OutcomeKind.DEFERRED, f"the Maildir can't be written: {error.strerror or error}")

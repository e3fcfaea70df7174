"""mailer with one protection taken out, with which a control sees the fault it protects from.

`python weakened.py PROTECTION COMMAND…` is `mailer COMMAND…` without it. Only this process is
weaker: what a supervisor starts is mailer as it is.
"""

from __future__ import annotations

import functools
import os
import sys
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mailer import __main__, retry, supervisor, tokens
from mailer.settings import load
from mailer.store import Store, backup, messages, outcomes, queue
from mailer.store.outcomes import rules_of

Protection = Callable[[], None]
"""Takes it out."""


def mailer_command(*command: str, without: Protection | None = None) -> list[str]:
    """The command line of `mailer`, whole or without a protection."""
    if without is None:
        return [sys.executable, "-m", "mailer", *command]
    return [sys.executable, "-P", __file__, without.__name__, *command]


def checks_of_mail() -> None:
    """What a mail is made of is not compared with what was accepted."""
    _replace(queue, "mail_checksum", lambda *_: _Anything())
    _replace(messages, "_digest", lambda *_: _Anything())


def check_at_start() -> None:
    """A supervisor starts on whatever file there is."""
    _replace(supervisor, "verify", lambda _path: None)


def crash_count() -> None:
    """However often a mail has ended its sender, it is sent again."""
    _replace(retry, "CRASHES_TO_GIVE_UP", sys.maxsize)


def look_at_the_living() -> None:
    """A sender's mail is taken from it whether or not its process lives."""
    _replace(supervisor, "process_started", lambda _pid: 0)


def loyalty() -> None:
    """What one transport may have taken, another may send."""
    _replace(outcomes, "kept_by", lambda _transport, queue: queue)


def private_modes() -> None:
    """Files are made with the modes that programs usually ask for, and keep those they have."""
    make = os.open

    def usual(path: Any, flags: int, mode: int = 0o777, **kwargs: Any) -> int:
        return make(path, flags, mode | 0o066, **kwargs)

    _replace(os, "open", usual)
    _replace(Path, "chmod", lambda *_: None)


def signatures() -> None:
    """A token is believed, whoever made it."""
    _replace(tokens, "verify", lambda _key, _purpose, token: _payload(token))


def equal_times() -> None:
    """A mail is looked for before its token's signature is looked at."""
    verify = tokens.verify

    @functools.cache
    def store() -> Store:
        settings = load(os.environ, Path(".env"))
        return Store(settings.database_path, rules_of(settings))

    def verified(key: bytes, purpose: str, token: str) -> str | None:
        mail = store().mails.get(_payload(token) or "")
        if mail is not None:
            store().mails.attempts(mail.id)
            store().mails.events(mail.id)
        return verify(key, purpose, token)

    _replace(tokens, "verify", verified)


def free_writers() -> None:
    """A back-up holds the write lock while it copies."""
    copied = backup._copied

    @contextmanager
    def locked(source: Path, target: Path) -> Iterator[Any]:
        with backup._locked(source), copied(source, target) as copy:
            yield copy

    _replace(backup, "_copied", locked)


class _Anything:
    """Differs from nothing."""

    def __ne__(self, other: object) -> bool:
        return False


def _payload(token: str) -> str | None:
    try:
        return urlsafe_b64decode(token + "=" * (-len(token) % 4))[16:].decode()
    except ValueError:
        return None


def _replace(owner: Any, name: str, weaker: Any) -> None:
    getattr(owner, name)  # a protection that has gone elsewhere is not taken out
    setattr(owner, name, weaker)


if __name__ == "__main__":
    weaken: Protection = globals()[sys.argv.pop(1)]
    weaken()
    __main__.main()

"""Logging of every process, and whom it tells of errors; neither tells what is in a mail.

Log lines go to standard error, one for each event; `log_lines` says how they look, `journal` what
becomes of them under systemd.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mailer.journal import JournalFields, JournalLines, journal_of
from mailer.log_lines import Lines, places
from mailer.settings import Settings
from mailer.vocabulary import LogFormat

if TYPE_CHECKING:
    from sentry_sdk.transport import Transport

log = logging.getLogger("mailer")

_reports: Final[list[Callable[[BaseException], object]]] = []
"""Who is told of errors beside the log: Sentry, if it is."""


def start(
    settings: Settings,
    process_name: str,
    *,
    confined: bool = False,
    transport: Transport | None = None,
) -> None:
    """Set up logging, and Sentry when SENTRY_DSN is set, for this process.

    The lines of one that is going to be `confined` stay in the stream whose length is bounded.
    """
    root = logging.getLogger()
    root.handlers = [_handler(settings.log_format, process_name, confined=confined)]
    root.setLevel(settings.log_level)
    # They speak of each connection, start and turn; ours says what matters.
    for noisy in ("uvicorn.error", "sentry_sdk.errors", "asyncio", "schedule"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    # What Python itself prints of errors and warnings has their words in it.
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)
    threading.excepthook = ended_thread
    sys.unraisablehook = lambda lost: _unraisable(lost.exc_value)
    if not settings.sentry_dsn:
        return
    # Here, since it takes 8 MB of memory, and there are a dozen processes.
    from mailer import sentry

    sentry.start(settings.sentry_dsn, process_name, transport)
    _reports.append(sentry.report)


def unexpected(error: BaseException, where: str) -> None:
    """Log an error of ours with its traceback, without its message, and report it."""
    log.error("unexpected %s in %s: %s", type(error).__name__, where, places(error))
    for report in _reports:
        report(error)


def _handler(form: LogFormat | None, process_name: str, *, confined: bool) -> logging.Handler:
    journal = journal_of(sys.stderr.fileno())
    if journal is None:
        usual = LogFormat.TEXT if sys.stderr.isatty() else LogFormat.LOGFMT
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(Lines(form or usual, process_name))
        return handler
    lines = Lines(form or LogFormat.TEXT, process_name, head=False)
    if confined:
        return JournalLines(sys.stderr, lines)
    return JournalFields(sys.stderr, lines, process_name, journal)


def ended_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and ended.exc_type is not SystemExit:
        unexpected(ended.exc_value, f"thread {ended.thread.name if ended.thread else 'unknown'}")


def _unraisable(error: BaseException | None) -> None:
    if error is not None:
        unexpected(error, "an object's end")

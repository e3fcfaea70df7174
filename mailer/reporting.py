"""Logging of every process, and whom it tells of errors; neither tells what is in a mail.

Log lines go to standard error, one for each record.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mailer.settings import Settings

if TYPE_CHECKING:
    from sentry_sdk.transport import Transport

log = logging.getLogger("mailer")

_reports: Final[list[Callable[[BaseException], object]]] = []
"""Who is told of errors beside the log: Sentry, if it is."""


def start(
    settings: Settings,
    process_name: str,
    *,
    transport: Transport | None = None,
) -> None:
    """Set up logging, and Sentry when SENTRY_DSN is set, for this process."""
    start_logging(settings.log_level, process_name)
    if not settings.sentry_dsn:
        return
    # Here, since it takes 8 MB of memory, and there are a dozen processes.
    from mailer import sentry

    sentry.start(settings.sentry_dsn, process_name, transport)
    _reports.append(sentry.report)


def start_logging(level: str, process_name: str) -> None:
    """One line per record to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(process_name))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # Their INFO speaks of each connection and start; ours says what matters.
    for noisy in ("uvicorn.error", "sentry_sdk.errors", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def unexpected(error: BaseException, where: str) -> None:
    """Log an error of ours with its traceback, without its message, and report it."""
    log.error("unexpected %s in %s: %s", type(error).__name__, where, _places(error))
    for report in _reports:
        report(error)


class OneLine(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO api[4711] mailer.api: text`, whatever the text holds."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, process_name: str) -> None:
        super().__init__(
            f"%(asctime)s %(levelname)s {process_name}[%(process)d] %(name)s: %(message)s"
        )

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace("\\", "\\\\")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Type and places only: the message of an exception may hold what a mail holds."""
        error = ei[1]
        return f"{type(error).__name__} in {_places(error)}" if error else ""


def _places(error: BaseException) -> str:
    """Where it passed, innermost last, as `file:line function`."""
    places = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        places.append(f"{code.co_filename}:{step.tb_lineno} {code.co_name}")
        step = step.tb_next
    return " > ".join(places[-12:])

"""Logging and error reports of every process, of which neither tells what is in a mail.

Log lines go to standard error, one for each record. To Sentry go the type of an exception, the
places in the code it passed, process and release: no messages, variables, headers or bodies.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration
from sentry_sdk.transport import Transport

import mailer
from mailer.settings import Settings

log = logging.getLogger("mailer")

_FRAME_KEYS: Final = ("filename", "module", "function", "lineno", "in_app")


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
    sentry_sdk.init(
        dsn=settings.sentry_dsn,
        release=f"mailer@{mailer.__version__}",
        server_name=process_name,
        environment="production",
        transport=transport,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            AtexitIntegration(callback=lambda pending, timeout: None),
            DedupeIntegration(),
            ExcepthookIntegration(),
            ThreadingIntegration(),
        ],
        include_local_variables=False,
        include_source_context=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        before_send=lambda event, hint: only_allowed(event, process_name),  # type: ignore[arg-type, return-value]
    )


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
    sentry_sdk.capture_exception(error)


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


def only_allowed(event: Mapping[str, Any], process_name: str) -> dict[str, Any]:
    """Build what may leave the machine, anew, from what is known to be harmless."""
    exceptions = (event.get("exception") or {}).get("values") or []
    return {
        "event_id": event.get("event_id"),
        "timestamp": event.get("timestamp"),
        "platform": event.get("platform"),
        "level": event.get("level"),
        "release": event.get("release"),
        "environment": event.get("environment"),
        "server_name": process_name,
        "exception": {"values": [_exception(value) for value in exceptions]},
    }


def _exception(value: Mapping[str, Any]) -> dict[str, Any]:
    frames = (value.get("stacktrace") or {}).get("frames") or []
    return {
        "type": value.get("type"),
        "module": value.get("module"),
        "stacktrace": {
            "frames": [{key: frame.get(key) for key in _FRAME_KEYS} for frame in frames]
        },
    }


def _places(error: BaseException) -> str:
    """Where it passed, innermost last, as `file:line function`."""
    places = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        places.append(f"{code.co_filename}:{step.tb_lineno} {code.co_name}")
        step = step.tb_next
    return " > ".join(places[-12:])

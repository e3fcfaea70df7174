"""The lines of the log: one for each event, for people, as logfmt or as JSON.

Whatever is logged, a line holds no control characters and of an exception no words, which may be
those of a mail, but its type and where it passed. At INFO and above it holds no mail address.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from mailer.masking import masked
from mailer.vocabulary import LogFormat, OutcomeKind

http_request_id: Final[ContextVar[str]] = ContextVar("http_request_id", default="")
"""The HTTP request at which this task is: each of its lines says so."""

FIELDS: Final[dict[str, str]] = {
    "time": "when, in UTC",
    "level": "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`",
    "process": "`api`, `supervisor`, `sender-0`, `notifier-PLUGIN`, `worker-NAME`",
    "pid": "its process",
    "logger": "the part of mailer, or the library, that says so",
    "msg": "what happened",
    "http_request_id": "the request, by the caller's `X-Request-ID` or one that was made for it",
    "mail_id": "the mail: the API's `request_id`",
    "batch_id": "the batch",
    "mails": "how many mails",
    "topic": "the topic of the mail, or of all mails of the request",
    "transport": "the transport",
    "attempt": "which attempt of the mail's it was, from 1",
    "outcome": "how it ended",
    "code": "the code that the provider's words begin with, as `550 5.1.1`",
    "recipient": "a hash of the address; `mailer hash ADDRESS` tells it",
    "duration_ms": "how long the request or the attempt took",
    "status": "the HTTP status that was answered",
    "caller": "whom the token speaks for",
    "client": "the address of a caller that was not let in",
    **{str(kind): f"attempts that ended as {kind}" for kind in OutcomeKind},
    "transport_because": "why this transport",
    "destination": "where mail goes",
    "database": "the database file",
    "settings": "which settings are set, and where",
    "api": "where the API listens",
    "api_for": "whom it serves",
}
"""Every field of mailer's own lines; plugins may have more."""

# What the logging module puts on every record, and uvicorn on its own; all else are fields.
_NO_FIELDS: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}


class Lines(logging.Formatter):
    """Records as lines of one form, without the head when somebody else adds time and process."""

    def __init__(self, form: LogFormat, process_name: str, *, head: bool = True) -> None:
        super().__init__()
        self._form = form
        self._process_name = process_name
        self._head = head

    def format(self, record: logging.LogRecord) -> str:
        head = {
            "time": _time(record),
            "level": record.levelname,
            "process": self._process_name,
            "pid": record.process,
            "logger": record.name,
        }
        event = {"msg": message(record), **fields(record)}
        if self._form is LogFormat.JSON:
            return json.dumps({**head, **event} if self._head else event)
        if self._form is LogFormat.LOGFMT:
            return _logfmt({**head, **event} if self._head else event)
        said = _printable(f"{record.name}: {event.pop('msg')}")
        before = f"{head['time']} {record.levelname} {self._process_name}[{record.process}] "
        return f"{before if self._head else ''}{said} {_logfmt(event)}".rstrip()


def message(record: logging.LogRecord) -> str:
    """What it says, with an exception's type and places, and no more than that of one."""
    try:
        said = record.getMessage()
    except (TypeError, ValueError):
        said = str(record.msg)
    if record.name == "asyncio":  # what follows the first line is made of tasks and exceptions
        said = said.partition("\n")[0]
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        said = f"{said.rstrip()}: {type(error).__name__} in {places(error)}"
    return _fit_for(record.levelno, said)


def fields(record: logging.LogRecord) -> dict[str, str | int | float]:
    """What was logged as `extra`, and the HTTP request it belongs to; empty ones are left out."""
    found = {name: value for name, value in vars(record).items() if name not in _NO_FIELDS}
    found.setdefault("http_request_id", http_request_id.get())
    return {
        name: value if isinstance(value, int | float) else _fit_for(record.levelno, str(value))
        for name, value in found.items()
        if value not in (None, "")
    }


def places(error: BaseException) -> str:
    """Where it passed, innermost last, as `file:line function`."""
    found = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        found.append(f"{code.co_filename}:{step.tb_lineno} {code.co_name}")
        step = step.tb_next
    return " > ".join(found[-12:])


def _fit_for(level: int, text: str) -> str:
    return masked(text) if level >= logging.INFO else text


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03}Z"


def _logfmt(values: Mapping[str, Any]) -> str:
    """`name=value`, values quoted where they have to be (https://brandur.org/logfmt)."""
    return " ".join(f"{name}={_logfmt_value(str(value))}" for name, value in values.items())


def _logfmt_value(value: str) -> str:
    if value.isprintable() and not any(c in value for c in ' ="\\'):
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable())


def _printable(text: str) -> str:
    text = text.replace("\\", "\\\\")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

"""What leaves the process when something breaks: where it broke, and nothing of anybody's mail."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

import mailer
from mailer import reporting, sentry
from mailer.log_lines import Lines
from mailer.settings import Settings
from mailer.vocabulary import LogFormat

CANARY = "canary@secret.example"


class Capture(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.sent.append(envelope.serialize())


@pytest.fixture
def captured() -> Iterator[Capture]:
    """Sentry as every process sets it up, with an end that keeps instead of sending."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    capture = Capture()
    settings = Settings(sentry_dsn="https://key@sentry.invalid/1")
    reporting.start(settings, "sender-1", transport=capture)
    yield capture
    sentry_sdk.get_global_scope().set_client(None)
    root.handlers, root.level = handlers, level


def _raise_with_value(subject: str) -> None:
    body = f"<p>{subject}</p>"
    raise ValueError(f"can't send {subject} {body}")


def _raise_with_cause(address: str) -> None:
    try:
        dict[str, str]()[address]
    except KeyError as error:
        raise RuntimeError(address) from error


def _raise_in_context(token: str) -> None:
    try:
        int(token)
    except ValueError:
        _raise_with_value(token)


def _raise_unicode(text: str) -> None:
    (text + "\ud800").encode()


def _raise_group(text: str) -> None:
    raise ExceptionGroup(text, [ValueError(text), KeyError(text)])


def _raise_with_note(text: str) -> None:
    error = OSError(text)
    error.add_note(text)
    raise error


def _raise_os_error_with_file(text: str) -> None:
    open(f"/nonexistent/{text}")  # noqa: SIM115


WAYS = [
    _raise_with_value,
    _raise_with_cause,
    _raise_in_context,
    _raise_unicode,
    _raise_group,
    _raise_with_note,
    _raise_os_error_with_file,
]


@pytest.mark.parametrize("way", WAYS)
def test_reports_tell_where_and_not_what(
    captured: Capture, caplog: pytest.LogCaptureFixture, way: Callable[[str], None]
) -> None:
    sentry_sdk.set_user({"email": CANARY})
    sentry_sdk.set_tag("recipient", CANARY)
    sentry_sdk.set_context("mail", {"subject": CANARY})
    sentry_sdk.add_breadcrumb(message=CANARY)
    logging.getLogger("mailer.sender").error("could not send to %s", CANARY)
    try:
        way(CANARY)
    except Exception as error:
        reporting.unexpected(error, "POST /v1/messages")
    sentry_sdk.flush()

    (report,) = captured.sent
    assert CANARY.encode() not in report
    assert way.__name__.encode() in report
    event = json.loads(report.splitlines()[-1])
    assert event["release"] == f"mailer@{mailer.__version__}"
    assert event["server_name"] == "sender-1"
    assert set(event) <= {
        "event_id", "timestamp", "platform", "level", "release", "environment", "server_name",
        "exception", "sdk",
    }  # fmt: skip
    unexpected = [r for r in caplog.records if r.name == "mailer"]
    assert way.__name__ in unexpected[0].getMessage()
    assert CANARY not in unexpected[0].getMessage()


def test_messages_and_transactions_are_not_sent_with_text(captured: Capture) -> None:
    sentry_sdk.capture_message(f"about {CANARY}")
    with sentry_sdk.start_transaction(name=CANARY):
        pass
    sentry_sdk.flush()

    assert CANARY.encode() not in b"".join(captured.sent)


def test_a_control_without_the_allow_list_would_tell(captured: Capture) -> None:
    event = {"exception": {"values": [{"type": "ValueError", "value": CANARY}]}, "user": CANARY}

    assert CANARY in str(event)
    assert CANARY not in str(sentry.only_allowed(event, "api"))


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\x1b[31mb", "a\u2028b", "a\x00b", "a\\nb"])
@pytest.mark.parametrize("form", LogFormat)
def test_a_record_is_one_line_whatever_it_holds(text: str, form: LogFormat) -> None:
    record = logging.LogRecord("mailer", logging.INFO, "f.py", 1, "said %s", (text,), None)

    line = Lines(form, "api").format(record)

    assert line.isprintable()
    assert "said a" in line


def test_a_logged_exception_is_one_line_without_its_message() -> None:
    try:
        _raise_with_value(CANARY)
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("mailer", logging.ERROR, "f.py", 1, "broke", (), info)

    line = Lines(LogFormat.TEXT, "api").format(record)

    assert line.isprintable()
    assert "ValueError" in line
    assert "_raise_with_value" in line
    assert CANARY not in line


def test_without_a_dsn_nothing_is_set_up_to_send() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    reporting.start(Settings(), "api")
    root.handlers, root.level = handlers, level

    assert not sentry_sdk.get_client().is_active()

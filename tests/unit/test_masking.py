"""What the log shows of addresses and of providers' words."""

from __future__ import annotations

import logging
import threading

import pytest

from mailer import reporting
from mailer.log_lines import Lines
from mailer.masking import MASK, address_hash, code_of, masked
from mailer.vocabulary import LogFormat

ADDRESSES = [
    "ann@example.com",
    "Ann.B+tag=x@mail.example.co.uk",
    '"ann of the hill"@example.com',
    '"a\\"b"@example.com',
    "ann@[192.0.2.1]",
    "ann@[IPv6:2001:db8::1]",
    "björn@bücher.example",
    "bounce-ann=example.com@list.example",
    "ann%40example.com",
    "ann@localhost",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("around", ["{}", "<{}>: no", "to {}, again", "({})", "mailto:{}", "'{}'"])
def test_an_address_is_masked_wherever_it_stands(address: str, around: str) -> None:
    shown = masked(f"550 {around.format(address)} refused")
    assert shown.startswith("550 ")
    assert shown.endswith(" refused")
    assert MASK in shown
    assert "ann" not in shown.lower()
    assert "example" not in shown


@pytest.mark.parametrize("text", ["550 5.1.1 no such user", "a @ b", "", "100 %", "@"])
def test_other_words_stay(text: str) -> None:
    assert masked(text) == text


def test_one_address_has_one_hash_in_one_installation() -> None:
    key, other = b"k" * 32, b"o" * 32
    assert address_hash(key, "Ann@Example.com ") == address_hash(key, "ann@example.com")
    assert address_hash(key, "ann@example.com") != address_hash(key, "bob@example.com")
    assert address_hash(key, "ann@example.com") != address_hash(other, "ann@example.com")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("550 5.1.1 <ann@example.com>: no such user", "550 5.1.1"),
        ("421 closing", "421"),
        ("MessageRejected: Email address is not verified: ann@example.com", "MessageRejected"),
        ("MAIL_FROM_DOMAIN_NOT_VERIFIED: x", "MAIL_FROM_DOMAIN_NOT_VERIFIED"),
        ("Ann: no such user", ""),
        ("Your secret plan", ""),
        ("5500 wonders", ""),
        ("", ""),
    ],
)
def test_the_code_of_words(words: str, code: str) -> None:
    assert code_of(words) == code


def line(form: LogFormat, level: int, text: str, **fields: object) -> str:
    record = logging.makeLogRecord(
        {"name": "x", "levelno": level, "levelname": logging.getLevelName(level), "msg": text}
    )
    vars(record).update(fields)
    return Lines(form, "api").format(record)


@pytest.mark.parametrize("form", LogFormat)
def test_at_info_neither_text_nor_field_tells_an_address(form: LogFormat) -> None:
    told = {"text": "to ann@example.com", "topic": "of ann@example.com"}
    assert "ann" not in line(form, logging.INFO, **told)
    assert "ann" in line(form, logging.DEBUG, **told)


def test_fields_are_quoted_where_they_must_be() -> None:
    shown = line(LogFormat.LOGFMT, logging.INFO, "two words", topic='a"b', mails=3, code="", n=None)
    assert shown.endswith(' msg="two words" topic="a\\"b" mails=3')


def test_what_asyncio_says_of_a_task_is_its_first_line() -> None:
    record = logging.makeLogRecord(
        {"name": "asyncio", "levelno": logging.ERROR, "msg": "Task failed\nfuture: secret"}
    )
    assert "secret" not in Lines(LogFormat.TEXT, "api").format(record)


def test_a_record_whose_arguments_do_not_fit_is_a_line_all_the_same() -> None:
    record = logging.LogRecord("x", logging.INFO, "f.py", 1, "%d mails", ("secret",), None)
    assert Lines(LogFormat.TEXT, "api").format(record).endswith("x: %d mails")


def test_an_error_that_ends_a_thread_is_told_without_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    thread = threading.Thread(name="worker")
    reporting.ended_thread(
        threading.ExceptHookArgs((ValueError, ValueError("secret"), None, thread))
    )
    reporting.ended_thread(threading.ExceptHookArgs((SystemExit, SystemExit(), None, thread)))
    (told,) = caplog.messages
    assert told.startswith("unexpected ValueError in thread worker")
    assert "secret" not in told

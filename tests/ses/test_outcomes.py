"""What each answer of SES, each silence and each broken connection means for mails."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mailer_ses.account import Account, Client, NotSent
from mailer_ses.outcomes import HALT_S, QUOTA_S, RULES
from mailer_ses.requests import single
from mailer_ses.transport import SesTransport

from mailer.errors import TransportUnreachable
from mailer.hookspecs import Envelope, Outcome
from mailer.mail import Attachment
from mailer.testing import envelope
from mailer.vocabulary import OutcomeKind
from tests.certificates import Certificates
from tests.ses.harness import FakeSes

ACCEPTED, REJECTED, DEFERRED = OutcomeKind.ACCEPTED, OutcomeKind.REJECTED, OutcomeKind.DEFERRED
THROTTLED, UNKNOWN = OutcomeKind.THROTTLED, OutcomeKind.UNKNOWN

Row = tuple[int, str, str, OutcomeKind, float | None, str]

CALL_ERRORS: tuple[Row, ...] = (
    (400, "MessageRejected", "Virus found", REJECTED, None, "Virus found"),
    (400, "BadRequestException", "Illegal address", REJECTED, None, "Illegal address"),
    (404, "NotFoundException", "no such thing", REJECTED, None, "no such thing"),
    (404, "NotFoundException", "Configuration set <x> does not exist.", THROTTLED, HALT_S,
     "SES_CONFIGURATION_SET"),
    (429, "TooManyRequestsException", "Maximum sending rate exceeded.", THROTTLED, None, "rate"),
    (429, "TooManyRequestsException", "Daily message quota exceeded.", THROTTLED, QUOTA_S, "frees"),
    (400, "ThrottlingException", "Rate exceeded", THROTTLED, None, "Rate"),
    (400, "Throttling", "Rate exceeded", THROTTLED, None, "Rate"),
    (400, "LimitExceededException", "limit", THROTTLED, QUOTA_S, "quota"),
    (400, "AccountSuspendedException", "suspended", THROTTLED, HALT_S, "support"),
    (400, "SendingPausedException", "for account", THROTTLED, HALT_S, "resume"),
    (400, "SendingPausedException", "for configuration set x", THROTTLED, HALT_S, "set; resume"),
    (400, "MailFromDomainNotVerifiedException", "no", THROTTLED, HALT_S, "verify the From"),
    (403, "AccessDeniedException", "not authorized", THROTTLED, HALT_S, "ses:SendRawEmail"),
    (403, "UnrecognizedClientException", "token invalid", THROTTLED, HALT_S, "AWS_ACCESS_KEY_ID"),
    (403, "InvalidClientTokenId", "unknown key", THROTTLED, HALT_S, "AWS_ACCESS_KEY_ID"),
    (403, "ExpiredTokenException", "expired", THROTTLED, HALT_S, "AWS_ACCESS_KEY_ID"),
    (403, "InvalidSignatureException", "does not match", THROTTLED, HALT_S, "AWS_ACCESS_KEY_ID"),
    (403, "InvalidSignatureException", "Signature expired: 1 is earlier", THROTTLED, HALT_S,
     "clock"),
    (403, "SignatureDoesNotMatch", "no match", THROTTLED, HALT_S, "AWS_ACCESS_KEY_ID"),
    (403, "MissingAuthenticationTokenException", "none", THROTTLED, HALT_S, "AWS_ACCESS_KEY_ID"),
    (403, "IncompleteSignature", "incomplete", THROTTLED, HALT_S, "AWS_ACCESS_KEY_ID"),
    (403, "NotAuthorized", "no", THROTTLED, HALT_S, "AWS_ACCESS_KEY_ID"),
    (403, "OptInRequired", "no", THROTTLED, HALT_S, "AWS_ACCESS_KEY_ID"),
    (400, "RequestExpired", "too old", THROTTLED, HALT_S, "clock"),
    (403, "RequestTimeTooSkewed", "skewed", THROTTLED, HALT_S, "clock"),
    (403, "NewAuthException", "new", THROTTLED, HALT_S, "AWS_ACCESS_KEY_ID"),
    (429, "NewRateException", "new", THROTTLED, None, "new"),
    (400, "NewException", "new", REJECTED, None, "new"),
    (413, "RequestEntityTooLarge", "large", REJECTED, None, "large"),
    (408, "RequestTimeout", "slow", DEFERRED, None, "slow"),
    (500, "InternalFailure", "oops", DEFERRED, None, "oops"),
    (502, "", "bad gateway", DEFERRED, None, "bad gateway"),
    (503, "ServiceUnavailable", "later", DEFERRED, None, "later"),
    (504, "GatewayTimeout", "nothing came", UNKNOWN, None, "nothing came"),
)  # fmt: skip

ENTRIES: tuple[tuple[str, OutcomeKind, float | None, str], ...] = (
    ("MESSAGE_REJECTED", REJECTED, None, "MESSAGE_REJECTED"),
    ("INVALID_PARAMETER", REJECTED, None, "INVALID_PARAMETER"),
    ("MAIL_FROM_DOMAIN_NOT_VERIFIED", THROTTLED, HALT_S, "verify the From"),
    ("CONFIGURATION_SET_NOT_FOUND", THROTTLED, HALT_S, "SES_CONFIGURATION_SET"),
    ("CONFIGURATION_SET_SENDING_PAUSED", THROTTLED, HALT_S, "resume"),
    ("INVALID_SENDING_POOL_NAME", THROTTLED, HALT_S, "pool"),
    ("TEMPLATE_NOT_FOUND", THROTTLED, HALT_S, "SES_BULK"),
    ("ACCOUNT_SUSPENDED", THROTTLED, HALT_S, "support"),
    ("ACCOUNT_SENDING_PAUSED", THROTTLED, HALT_S, "resume"),
    ("ACCOUNT_THROTTLED", THROTTLED, None, "ACCOUNT_THROTTLED"),
    ("ACCOUNT_DAILY_QUOTA_EXCEEDED", THROTTLED, QUOTA_S, "quota"),
    ("TRANSIENT_FAILURE", DEFERRED, None, "TRANSIENT_FAILURE"),
    ("FAILED", DEFERRED, None, "FAILED"),
)


def mails(count: int) -> list[Envelope]:
    return [envelope(n, from_email="Shop & Söhne <shop@example.org>") for n in range(count)]


def kinds(outcomes: list[Outcome]) -> list[OutcomeKind]:
    return [outcome.kind for outcome in outcomes]


def sent(transport: SesTransport, given: list[Envelope]) -> list[Outcome]:
    return list(transport.open().send(given))


def test_every_row_is_tested() -> None:
    assert {*RULES} == {row[1] for row in CALL_ERRORS if row[1] in RULES} | {e[0] for e in ENTRIES}


@pytest.mark.parametrize("count", [1, 3], ids=["single", "bulk"])
@pytest.mark.parametrize(
    ("status", "code", "words", "kind", "retry_after_s", "says"),
    CALL_ERRORS,
    ids=[f"{row[1]} {row[0]} {row[2][:9]}" for row in CALL_ERRORS],
)
def test_errors_of_a_call(
    ses: FakeSes, transport: SesTransport, count: int, status: int, code: str, words: str,
    kind: OutcomeKind, retry_after_s: float | None, says: str,
) -> None:  # fmt: skip
    # Once for the call, and for each mail, should they be tried singly.
    ses.told(faults=[{"status": status, "code": code, "message": words}] * (count + 1))

    outcomes = sent(transport, mails(count))

    assert kinds(outcomes) == [kind] * count
    assert all(outcome.retry_after_s == retry_after_s for outcome in outcomes)
    assert all(says in outcome.detail for outcome in outcomes)
    assert all(outcome.concerns_all is (kind is DEFERRED) for outcome in outcomes)
    assert ses.mails() == []


@pytest.mark.parametrize(("status", "kind", "retry_after_s", "says"), ENTRIES)
def test_entries_of_a_bulk_answer(
    ses: FakeSes, transport: SesTransport, status: str, kind: OutcomeKind,
    retry_after_s: float | None, says: str,
) -> None:  # fmt: skip
    ses.told(faults=[{"entries": {"1": status}}])

    first, failed, last = sent(transport, mails(3))

    assert (first.kind, last.kind) == (ACCEPTED, ACCEPTED)
    assert (failed.kind, failed.retry_after_s) == (kind, retry_after_s)
    assert says in failed.detail
    assert failed.provider_id is None
    assert not failed.concerns_all
    taken = {mail["tags"]["mailer_request_id"]: mail["message_id"] for mail in ses.mails()}
    assert taken == {"contract-0": first.provider_id, "contract-2": last.provider_id}


@pytest.mark.parametrize(
    "fault",
    [{"drop": 1}, {"add": 1}, {"same_ids": True}, {"body": "no JSON"}, {"cut": "after"}],
    ids=["short", "long", "one id twice", "garbage", "cut"],
)
def test_answers_that_tell_nothing_of_a_mail_leave_it_unknown(
    ses: FakeSes, transport: SesTransport, fault: dict[str, Any]
) -> None:
    ses.told(faults=[fault])

    assert kinds(sent(transport, mails(3))) == [UNKNOWN] * 3
    assert len(ses.mails()) == 3
    assert ses.operations() == ["SendBulkEmail"]


@pytest.mark.parametrize("fault", [{"body": "{}"}, {"body": "no JSON"}, {"cut": "after"}])
def test_a_single_call_without_a_real_answer_is_unknown(
    ses: FakeSes, transport: SesTransport, fault: dict[str, Any]
) -> None:
    ses.told(faults=[fault])

    assert kinds(sent(transport, mails(1))) == [UNKNOWN]
    assert len(ses.mails()) == 1


def test_a_status_ses_has_never_had_is_unknown(ses: FakeSes, transport: SesTransport) -> None:
    answer = '{"BulkEmailEntryResults":[{"Status":"NEW"},{"Status":"SUCCESS"},{}]}'
    ses.told(faults=[{"body": answer}])

    assert kinds(sent(transport, mails(3))) == [UNKNOWN] * 3


def test_a_slow_answer_is_waited_for_and_a_silent_one_unknown(
    ses: FakeSes, account: Account
) -> None:
    ses.told(faults=[{"delay_s": 0.2}, {"delay_s": 5}])
    session = SesTransport(replace(account, read_timeout_s=0.5)).open()

    assert kinds(list(session.send(mails(2)))) == [ACCEPTED] * 2
    assert kinds(list(session.send(mails(2)))) == [UNKNOWN] * 2


def test_one_bad_mail_of_a_bulk_call_harms_no_other(ses: FakeSes, transport: SesTransport) -> None:
    bad = replace(envelope(1), recipient="no-address@under_score")

    outcomes = sent(transport, [mails(3)[0], bad, mails(3)[2]])

    assert kinds(outcomes) == [ACCEPTED, REJECTED, ACCEPTED]
    assert ses.operations() == ["SendBulkEmail", *["SendEmail"] * 3]
    assert len(ses.mails()) == 2


@pytest.mark.parametrize("told", [{"bulk_denied": True}, {"inline_templates": False}])
def test_where_bulk_is_not_to_be_had_mails_go_singly(
    ses: FakeSes, transport: SesTransport, told: dict[str, Any]
) -> None:
    ses.told(**told)
    session = transport.open()

    assert kinds(list(session.send(mails(2)))) == [ACCEPTED] * 2
    assert kinds(list(session.send(mails(1)))) == [ACCEPTED]

    assert ses.operations() == ["SendBulkEmail", "SendEmail", "SendEmail", "SendEmail"]
    assert transport.batch_size == 1


def test_a_caller_s_own_unverified_from_stops_only_their_mail(
    ses: FakeSes, transport: SesTransport
) -> None:
    own = replace(envelope(1), from_email="me@unverified.example")

    (outcome,) = sent(transport, [own])

    assert outcome.kind is REJECTED
    assert "verify the From address" in outcome.detail


def test_the_installation_s_unverified_from_holds_everything(
    ses: FakeSes, transport: SesTransport
) -> None:
    ses.told(verified=["elsewhere.example"])

    for count in (1, 3):
        outcomes = sent(transport, mails(count))
        assert kinds(outcomes) == [THROTTLED] * count
        assert outcomes[0].retry_after_s == HALT_S
    assert ses.operations() == ["SendEmail", "SendBulkEmail"]


def test_an_unverified_recipient_in_the_sandbox_is_that_mail_s_fault(
    ses: FakeSes, transport: SesTransport
) -> None:
    words = "Email address is not verified. The following identities failed: user0@example.net"
    ses.told(faults=[{"status": 400, "code": "MessageRejected", "message": words}])

    (outcome,) = sent(transport, mails(1))

    assert outcome.kind is REJECTED
    assert "sandbox" in outcome.detail


def test_rate_and_quota_are_the_account_s(ses: FakeSes, transport: SesTransport) -> None:
    ses.told(max_send_rate=2)
    assert kinds(sent(transport, mails(5))) == [ACCEPTED] * 2 + [THROTTLED] * 3

    ses.told(max_24h=10, sent_24h=100)
    outcomes = sent(transport, mails(2))
    assert kinds(outcomes) == [THROTTLED] * 2
    assert {outcome.retry_after_s for outcome in outcomes} == {QUOTA_S}


def test_wrong_credentials_keep_mail_from_being_claimed(
    ses: FakeSes, transport: SesTransport
) -> None:
    ses.told(access_key_ids=["AKIAOTHER"])
    with pytest.raises(TransportUnreachable, match="AWS_ACCESS_KEY_ID"):
        transport.open()

    ses.told()
    assert kinds(sent(transport, mails(1))) == [ACCEPTED]


def test_no_credentials_at_all(
    ses: FakeSes, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(TransportUnreachable, match="AWS_ACCESS_KEY_ID"):
        SesTransport(account).open()


def test_mails_that_no_one_can_write_are_rejected_alone(
    ses: FakeSes, transport: SesTransport
) -> None:
    given = mails(4)
    given[0] = replace(given[0], subject="\ud800")
    given[1] = replace(given[1], headers=(("X-A", "two\r\nBcc: e@example.com"),))
    file = Attachment("a\r\nb", "text/plain", b"")
    given[2] = replace(given[2], attachments=(file,))

    assert kinds(sent(transport, given)) == [REJECTED] * 3 + [ACCEPTED]
    assert len(ses.mails()) == 1


@pytest.mark.alone
def test_mails_without_bulk_leave_side_by_side(ses: FakeSes, transport: SesTransport) -> None:
    ses.told(latency_s=0.1)
    file = Attachment("a.txt", "text/plain", b"x")
    given = [replace(mail, attachments=(file,)) for mail in mails(16)]

    assert kinds(sent(transport, given)) == [ACCEPTED] * 16

    began = [call["at"] for call in ses.calls()]
    assert max(began) - min(began) < 0.1


@pytest.fixture
def listener(aws: None) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def send_over_tls(
    account: Account, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://localhost:{listener.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", url)
    account = replace(account, connect_timeout_s=0.5, read_timeout_s=0.5)
    call = single(mails(1)[0], 0, None)
    Client(account, connections=1).call(call.operation, call.request)


def test_tls_that_is_never_answered_sends_nothing(
    listener: socket.socket, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was written: nothing can have been taken, and no attempt is used."""
    with pytest.raises(NotSent):
        send_over_tls(account, listener, monkeypatch)


def test_a_certificate_nobody_vouches_for_gets_no_byte_of_mail(
    listener: socket.socket, account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tls = Certificates.make(tmp_path).server()
    heard: list[bytes] = []

    def hear() -> None:
        client, _ = listener.accept()
        with suppress(OSError), tls.wrap_socket(client, server_side=True) as encrypted:
            heard.append(encrypted.recv(65536))

    thread = threading.Thread(target=hear)
    thread.start()
    with pytest.raises(NotSent, match="certificate verify failed"):
        send_over_tls(account, listener, monkeypatch)

    thread.join(5)
    assert b"".join(heard) == b""

"""What SES's answers mean for a mail: one table for errors of whole calls and of bulk entries.

A mail's own fault rejects it. A fault of the account, the settings or the rate throttles: the
whole transport waits, no mail uses up an attempt, and the outcome's words say what to mend. When
SES itself fails the mail is deferred, since it may be the cause, and all others wait a moment too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mailer.hookspecs import Envelope, Outcome
from mailer.mime import split_mailbox
from mailer.vocabulary import OutcomeKind
from mailer_ses.account import Refused

HALT_S: Final = 60.0
"""Somebody has to mend something; so often we look whether they have."""
QUOTA_S: Final = 300.0
"""The 24-hour window moves on slowly."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What an error means, when to come again, and what to do about it."""

    kind: OutcomeKind
    retry_after_s: float | None = None
    fix: str = ""
    concerns_all: bool = False
    halts: bool = False
    """Mail waits until somebody has done so."""


def _halt(fix: str) -> Rule:
    return Rule(OutcomeKind.THROTTLED, HALT_S, fix, halts=True)


REJECTED: Final = Rule(OutcomeKind.REJECTED)
DEFERRED: Final = Rule(OutcomeKind.DEFERRED)
DOWN: Final = Rule(OutcomeKind.DEFERRED, concerns_all=True)
UNKNOWN: Final = Rule(OutcomeKind.UNKNOWN)
TOO_FAST: Final = Rule(OutcomeKind.THROTTLED)
QUOTA_USED: Final = Rule(
    OutcomeKind.THROTTLED,
    QUOTA_S,
    "the account's 24-hour quota is used up; it frees by itself, or ask AWS for a higher one",
)
SENDER_UNVERIFIED: Final = _halt(
    "verify the From address or its domain in the SES console, in the region mailer sends from"
)
_SUSPENDED: Final = _halt("AWS suspended sending for this account; see its support centre")
_PAUSED: Final = _halt("sending is paused for this account; resume it in the SES console")
_SET_PAUSED: Final = _halt("sending is paused for the configuration set; resume it in SES")
_NO_SET: Final = _halt("SES_CONFIGURATION_SET names a configuration set that is not there")
_NO_TEMPLATE: Final = _halt("SES did not take the template sent with the mails; set SES_BULK=0")
_CREDENTIALS: Final = _halt(
    "AWS does not accept the credentials: give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY that"
    " are valid now, or an instance role"
)
_PERMISSION: Final = _halt(
    "the credentials may not do this: allow ses:SendEmail, ses:SendRawEmail, ses:SendBulkEmail"
)
_CLOCK: Final = _halt("this machine's clock is wrong; AWS refuses requests 5 minutes off")

RULES: Final[Mapping[str, Rule]] = {
    # Errors of a call (SESv2 API reference, and "Common Errors" of AWS)
    "MessageRejected": REJECTED,
    "BadRequestException": REJECTED,
    "NotFoundException": REJECTED,
    "MailFromDomainNotVerifiedException": SENDER_UNVERIFIED,
    "TooManyRequestsException": TOO_FAST,
    "ThrottlingException": TOO_FAST,
    "Throttling": TOO_FAST,
    "LimitExceededException": QUOTA_USED,
    "AccountSuspendedException": _SUSPENDED,
    "SendingPausedException": _PAUSED,
    "AccessDeniedException": _PERMISSION,
    "ExpiredTokenException": _CREDENTIALS,
    "IncompleteSignature": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "InvalidSignatureException": _CREDENTIALS,
    "MissingAuthenticationTokenException": _CREDENTIALS,
    "NotAuthorized": _CREDENTIALS,
    "OptInRequired": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "RequestExpired": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
    # Status of an entry of a bulk call
    "MESSAGE_REJECTED": REJECTED,
    "INVALID_PARAMETER": REJECTED,
    "MAIL_FROM_DOMAIN_NOT_VERIFIED": SENDER_UNVERIFIED,
    "CONFIGURATION_SET_NOT_FOUND": _NO_SET,
    "CONFIGURATION_SET_SENDING_PAUSED": _SET_PAUSED,
    "INVALID_SENDING_POOL_NAME": _halt("the configuration set names a sending pool SES lacks"),
    "TEMPLATE_NOT_FOUND": _NO_TEMPLATE,
    "ACCOUNT_SUSPENDED": _SUSPENDED,
    "ACCOUNT_SENDING_PAUSED": _PAUSED,
    "ACCOUNT_THROTTLED": TOO_FAST,
    "ACCOUNT_DAILY_QUOTA_EXCEEDED": QUOTA_USED,
    "TRANSIENT_FAILURE": DEFERRED,
    "FAILED": DEFERRED,
}

_WORDS: Final[tuple[tuple[Rule, re.Pattern[str], Rule], ...]] = (
    # SES says the same code for the rate and for the quota, for a bad mail and a bad setting.
    (TOO_FAST, re.compile(r"daily|24[- ]?hour|quota", re.I), QUOTA_USED),
    (REJECTED, re.compile(r"configuration set .*not exist", re.I | re.S), _NO_SET),
    (_PAUSED, re.compile(r"configuration set", re.I), _SET_PAUSED),
    (_CREDENTIALS, re.compile(r"signature (expired|not yet current)", re.I), _CLOCK),
)
_UNVERIFIED: Final = re.compile(r"not verified", re.I)


def rule_for(code: str, words: str, status: int) -> Rule:
    """Look an error up: by its code, by its words where the code is not enough, by its status."""
    rule = RULES.get(code)
    if rule is None:
        if status == 504:
            return UNKNOWN  # the gateway's word: what stands behind it may have taken the mail
        if status >= 500 or status == 408:
            return DOWN
        if status == 429:
            return TOO_FAST
        # Without a status: botocore found no credentials.
        return _CREDENTIALS if status in {0, 401, 403} else REJECTED
    return next((new for old, said, new in _WORDS if rule is old and said.search(words)), rule)


def of_error(error: Refused, envelope: Envelope, default_from: str) -> Outcome:
    """One mail's outcome of a call that was refused."""
    return _outcome(error.code, error.words, error.status, envelope, default_from)


def of_entries(
    results: Sequence[Mapping[str, Any]], envelopes: Sequence[Envelope], default_from: str
) -> list[Outcome]:
    """Each mail's outcome of a bulk call that was answered.

    Entries have no name but their place. An answer with too few or too many can't be told apart,
    nor can two entries with one MessageId: those mails may or may not have been taken.
    """
    if len(results) != len(envelopes):
        words = f"SES answered with {len(results)} results for {len(envelopes)} mails"
        return [Outcome(OutcomeKind.UNKNOWN, words)] * len(envelopes)
    ids = [result.get("MessageId") for result in results]
    outcomes = []
    for result, envelope, message_id in zip(results, envelopes, ids, strict=True):
        status = result.get("Status", "")
        if status == "SUCCESS":
            outcomes.append(of_answer(message_id if ids.count(message_id) == 1 else None))
        elif status not in RULES:
            words = f"SES answered {status or 'nothing'}, which says nothing of the mail"
            outcomes.append(Outcome(OutcomeKind.UNKNOWN, words))
        else:
            words = " ".join((result.get("Error") or "").split())
            outcomes.append(_outcome(status, words, 200, envelope, default_from))
    return outcomes


def of_answer(message_id: str | None) -> Outcome:
    """The outcome of a yes, which is one only with the id SES knows the mail by."""
    if not message_id:
        return Outcome(OutcomeKind.UNKNOWN, "SES said yes, without an id of its own for the mail")
    return Outcome(OutcomeKind.ACCEPTED, "", provider_id=message_id)


def _outcome(code: str, words: str, status: int, envelope: Envelope, default_from: str) -> Outcome:
    rule = rule_for(code, words, status)
    detail = f"{code}: {words}" if words else code or f"HTTP status {status}"
    if rule is REJECTED and _UNVERIFIED.search(words):
        rule = _unverified(words, envelope)
    if rule is SENDER_UNVERIFIED and envelope.from_email != default_from:
        # A From that one caller chose must not hold up the mail of all others.
        rule = Rule(OutcomeKind.REJECTED, fix=rule.fix)
    if rule.fix:
        detail = f"{detail} ({rule.fix})"
    return Outcome(
        rule.kind,
        detail,
        retry_after_s=rule.retry_after_s,
        concerns_all=rule.concerns_all,
        halts=rule.halts,
    )


def _unverified(words: str, envelope: Envelope) -> Rule:
    """Whose address is not verified: ours, or, in the sandbox, the recipient's."""
    _, address = split_mailbox(envelope.from_email)
    named = set(re.split(r"[\s,:;]+", words.lower()))
    domain = address.rpartition("@")[2].lower()
    if named & {address.lower(), domain, f"@{domain}"}:
        return SENDER_UNVERIFIED
    fix = "in the SES sandbox only verified recipients get mail; ask AWS for production access"
    return Rule(OutcomeKind.REJECTED, fix=fix)

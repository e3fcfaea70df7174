"""What `mailer doctor` asks AWS: may we send, as whom, how much, and do events find their way back?

Every call has short time-outs. What the credentials may not ask is a warning, since sending itself
may do all the same; what stops mail or loses events is a failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError

from mailer.hookspecs import Check
from mailer.mime import split_mailbox
from mailer.settings import Settings
from mailer.vocabulary import CheckResult
from mailer_ses import outcomes
from mailer_ses.account import Account, Client, NoAnswer, NotSent, Refused, session

OK: Final = CheckResult.OK
WARNING: Final = CheckResult.WARNING
FAILURE: Final = CheckResult.FAILURE

CONNECT_TIMEOUT_S: Final = 4.0
READ_TIMEOUT_S: Final = 6.0
MUCH: Final = 0.8
"""The part of the 24-hour quota from which on it is time to ask for more."""
SKEW_S: Final = 5.0
DENIED: Final = "AccessDeniedException"


def look(settings: Settings, now: datetime) -> Iterator[Check]:
    """All that SES itself can say; without an answer of the account's there is nothing to add."""
    account = Account.from_settings(settings)
    if account is None:
        return
    quick = replace(account, connect_timeout_s=CONNECT_TIMEOUT_S, read_timeout_s=READ_TIMEOUT_S)
    source = _credentials(quick)
    yield source
    if source.result is FAILURE:
        return
    client = Client(quick, connections=1)
    try:
        answer = client.ask("get_account")
    except Refused as error:
        yield _refused("ses: account", error)
        if error.code != DENIED:
            return
    except (NotSent, NoAnswer) as error:
        advice = "check AWS_REGION, DNS and the firewall: mail waits until SES can be reached"
        yield Check("ses: account", FAILURE, f"no answer from {account.region}: {error}", advice)
        return
    else:
        yield from _account(answer, account.region)
        yield from _limits(answer.get("SendQuota", {}), settings)
        yield _clock(answer, now)
    yield _identity(client, account, settings)


def _credentials(account: Account) -> Check:
    """Found, and where; whether AWS takes them the first call shows."""
    name = "ses: credentials"
    if account.access_key_id:
        return Check(name, OK, "from .env")
    try:
        found = session(account).get_credentials()
    except (BotoCoreError, ValueError) as error:
        return Check(name, FAILURE, f"can't be looked for: {error}", "mend ~/.aws, or AWS_PROFILE")
    if found is None:
        advice = (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the instance"
            " a role"
        )
        return Check(name, FAILURE, "boto3 finds none", advice)
    return Check(name, OK, f"found by boto3 ({found.method})")


def _refused(name: str, error: Refused) -> Check:
    if error.code == DENIED:
        advice = "allow the action it names, or run `mailer doctor` with more rights (AWS_PROFILE)"
        return Check(name, WARNING, f"may not be asked for: {error.words}", advice)
    fix = outcomes.rule_for(error.code, error.words, error.status).fix
    return Check(name, FAILURE, f"{error}", fix)


def _account(answer: Mapping[str, Any], region: str) -> Iterator[Check]:
    standing = answer.get("EnforcementStatus", "HEALTHY")
    if answer.get("SendingEnabled") is False:
        advice = "resume sending in the SES console; mail waits until then, and goes by itself"
        yield Check("ses: account", FAILURE, f"sending is paused in {region}", advice)
    elif standing != "HEALTHY":
        advice = "see the SES console: bounces and complaints have to come down"
        result = FAILURE if standing == "SHUTDOWN" else WARNING
        yield Check("ses: account", result, f"AWS has put it under {standing}", advice)
    else:
        yield Check("ses: account", OK, f"may send in {region}")
    if answer.get("ProductionAccessEnabled") is False:
        advice = "ask AWS for production access in the SES console"
        finding = "the account is in it: only verified recipients get mail"
        yield Check("ses: sandbox", WARNING, finding, advice)


def _limits(quota: Mapping[str, Any], settings: Settings) -> Iterator[Check]:
    daily, sent = quota.get("Max24HourSend", -1), quota.get("SentLast24Hours", 0)
    if daily < 0:
        yield Check("ses: quota", OK, f"no limit; {sent:,.0f} sent in the last 24 hours")
    else:
        finding = f"{sent:,.0f} of {daily:,.0f} used in the last 24 hours"
        advice = "bulk mail waits when it is used up; ask AWS for a higher one in good time"
        much = sent >= MUCH * daily
        yield Check("ses: quota", WARNING if much else OK, finding, advice if much else "")
    rate, of_limits = quota.get("MaxSendRate", 0), settings.limits.per_second("ses")
    variable = "LIMITS" if of_limits else "MAX_SEND_PER_SECOND"
    ours = of_limits or settings.max_send_per_second
    if ours is not None and ours > rate:
        finding = f"SES takes {rate:g} a second, {variable} says {ours:g}: {rate:g} it is"
        yield Check("ses: rate", WARNING, finding, f"set {rate:g} a second there, or ask AWS")
    else:
        limit = "no limit of ours" if ours is None else f"{variable} says {ours:g}"
        yield Check("ses: rate", OK, f"SES takes {rate:g} a second, {limit}")


def _clock(answer: Mapping[str, Any], now: datetime) -> Check:
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        ahead_s = (now - parsedate_to_datetime(date)).total_seconds()
    except (TypeError, ValueError):
        return Check("ses: clock", OK, "AWS did not say what time it is")
    if abs(ahead_s) < SKEW_S:
        return Check("ses: clock", OK, "agrees with AWS's")
    finding = f"this machine's is {abs(ahead_s):,.0f} s {'ahead of' if ahead_s > 0 else 'behind'}"
    advice = "run an NTP client: from 5 minutes on AWS refuses every request"
    return Check("ses: clock", WARNING, f"{finding} AWS's", advice)


def _identity(client: Client, account: Account, settings: Settings) -> Check:
    """The From address, its domain or one above it must be verified: any of them is enough."""
    name = "ses: From address"
    if settings.from_email is None:
        advice = "set FROM_EMAIL to a verified address, or let every message name its own"
        return Check(name, WARNING, "none is set", advice)
    _, address = split_mailbox(account.from_email)
    labels = address.rpartition("@")[2].split(".")
    known = []
    for identity in (address, *(".".join(labels[n:]) for n in range(len(labels) - 1))):
        try:
            answer = client.ask("get_email_identity", EmailIdentity=identity)
        except Refused as error:
            if error.code == "NotFoundException":
                continue
            return _refused(name, error)
        except (NotSent, NoAnswer) as error:
            return Check(name, FAILURE, f"no answer: {error}", "see the lines above")
        if answer.get("VerifiedForSendingStatus"):
            return Check(name, OK, f"{address} may be used: {identity} is verified")
        known.append(identity)
    finding = f"{address} is not verified in {account.region}"
    if known:
        finding += f" ({', '.join(known)}: verification is not complete)"
    return Check(name, FAILURE, finding, "verify the address or its domain in the SES console")

"""How the fake takes mail: what SES demands of a request, its rate and quota, the record."""

from __future__ import annotations

import base64
import itertools
import json
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import getaddresses, parseaddr
from typing import TYPE_CHECKING, Any

from tests.ses.rendering import (
    RenderingFailure,
    TemplateError,
    encoded,
    message,
    render,
    with_message_id,
)

if TYPE_CHECKING:
    from tests.ses.fake_ses import Told

MAX_INLINE_BYTES = 1_048_576
DISALLOWED = frozenset({
    "bcc", "cc", "content-disposition", "content-type", "date", "from", "message-id",
    "mime-version", "reply-to", "return-path", "subject", "to",
})  # fmt: skip
"""https://docs.aws.amazon.com/ses/latest/dg/header-fields.html"""


class Refusal(Exception):
    """The whole call is answered with an error."""

    def __init__(self, status: int, code: str, words: str) -> None:
        self.status, self.code, self.words = status, code, words


@dataclass
class Mail:
    """One mail that was taken. `raw` is base64; `failure` says why it could not be rendered."""

    message_id: str
    operation: str
    sender: str
    recipient: str
    subject: str
    html: str | None
    text: str | None
    headers: list[dict[str, str]]
    tags: dict[str, str]
    configuration_set: str | None
    raw: str
    failure: str = ""


class Service:
    """The part that knows mail; one call at a time."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._window: deque[float] = deque()
        self._sent = 0

    def account(self, told: Told) -> dict[str, Any]:
        quota = {
            "Max24HourSend": told.max_24h,
            "MaxSendRate": told.claims_rate or told.max_send_rate,
            "SentLast24Hours": told.sent_24h + self._sent,
        }
        return {
            "SendQuota": quota,
            "SendingEnabled": told.sending_enabled,
            "ProductionAccessEnabled": told.production,
            "EnforcementStatus": told.enforcement,
        }

    def take(
        self, name: str, request: dict[str, Any], size: int, told: Told, fault: dict[str, Any]
    ) -> tuple[list[Mail], dict[str, Any]]:
        self._check_account(request, told)
        if name == "SendEmail":
            if problem := self._over_limit(told):
                raise Refusal(429, "TooManyRequestsException", problem)
            mail = self._single(request)
            return [mail], {"MessageId": mail.message_id}
        if told.bulk_denied:
            words = "User: x is not authorized to perform: ses:SendBulkEmail"
            raise Refusal(403, "AccessDeniedException", words)
        return self._bulk(request, size, told, fault)

    def _check_account(self, request: dict[str, Any], told: Told) -> None:
        _, address = parseaddr(request["FromEmailAddress"])
        if address not in told.verified and address.rpartition("@")[2] not in told.verified:
            raise Refusal(400, "MessageRejected", (
                "Email address is not verified. The following identities failed the check in"
                f" region EU-CENTRAL-1: {address}"
            ))  # fmt: skip
        name = request.get("ConfigurationSetName")
        if name and name not in told.configuration_sets:
            words = f"Configuration set <{name}> does not exist."
            raise Refusal(404, "NotFoundException", words)
        if not told.sending_enabled:
            words = "Sending is paused for the account."
            raise Refusal(400, "SendingPausedException", words)
        _check_tags(request.get("EmailTags", []))

    def _over_limit(self, told: Told) -> str:
        now = time.monotonic()
        while self._window and self._window[0] <= now - 1:
            self._window.popleft()
        if 0 <= told.max_24h <= told.sent_24h + self._sent:
            return "Daily message quota exceeded."
        if len(self._window) >= told.max_send_rate:
            return "Maximum sending rate exceeded."
        self._window.append(now)
        self._sent += 1
        return ""

    def _single(self, request: dict[str, Any]) -> Mail:
        (recipient,) = _recipients(request["Destination"])
        content = request["Content"]
        (kind,) = content
        message_id = self._message_id()
        mail = Mail(
            message_id, f"SendEmail {kind}", request["FromEmailAddress"], recipient, "", None, None,
            [], _check_tags(request.get("EmailTags", [])), request.get("ConfigurationSetName"), "",
        )  # fmt: skip
        if kind == "Raw":
            raw = with_message_id(content["Raw"]["Data"], message_id)
        else:
            simple = content["Simple"]
            mail.subject = simple["Subject"]["Data"]
            parts = {name: part["Data"] for name, part in simple["Body"].items()}
            mail.html, mail.text = parts.get("Html"), parts.get("Text")
            mail.headers = _check_headers(simple.get("Headers", []))
            fields = _fields(request, mail.subject, request["Destination"])
            raw = message(fields, mail.headers, message_id, parts)
        mail.raw = base64.b64encode(raw).decode()
        return mail

    def _bulk(
        self, request: dict[str, Any], size: int, told: Told, fault: dict[str, Any]
    ) -> tuple[list[Mail], dict[str, Any]]:
        entries = request["BulkEmailEntries"]
        if not 1 <= len(entries) <= 50 or size > MAX_INLINE_BYTES:
            raise Refusal(400, "BadRequestException", f"{len(entries)} entries, {size} bytes")
        template = request["DefaultContent"]["Template"]
        if not told.inline_templates:
            words = "Template contains unsupported operations."
            raise Refusal(400, "BadRequestException", words)
        mails, results = [], []
        for place, entry in enumerate(entries):
            status = fault.get("entries", {}).get(str(place), "SUCCESS")
            if status == "SUCCESS" and (problem := self._over_limit(told)):
                daily = "Daily" in problem
                status = "ACCOUNT_DAILY_QUOTA_EXCEEDED" if daily else "ACCOUNT_THROTTLED"
            if status != "SUCCESS":
                results.append({"Status": status, "Error": f"{status} as told"} if status else {})
                continue
            mail = self._entry(request, template, entry, told)
            mails.append(mail)
            results.append({"Status": "SUCCESS", "MessageId": mail.message_id})
        return mails, {"BulkEmailEntryResults": _spoilt(results, fault)}

    def _entry(
        self, request: dict[str, Any], template: dict[str, Any], entry: dict[str, Any], told: Told
    ) -> Mail:
        (recipient,) = _recipients(entry["Destination"])
        replacement = entry.get("ReplacementEmailContent", {}).get("ReplacementTemplate", {})
        # Laid over key by key, as SES was seen to do: domdomegg/aws-ses-v2-local#102, #103.
        values = {
            **json.loads(template["TemplateData"]),
            **json.loads(replacement.get("ReplacementTemplateData") or "{}"),
        }
        replaced = {h["Name"]: h for h in entry.get("ReplacementHeaders", [])}
        headers = {h["Name"]: h for h in template.get("Headers", [])} | replaced
        mail = Mail(
            self._message_id(), "SendBulkEmail", request["FromEmailAddress"], recipient, "", None,
            None, _check_headers(list(headers.values())),
            _check_tags(entry.get("ReplacementTags") or request.get("DefaultEmailTags", [])),
            request.get("ConfigurationSetName"), "",
        )  # fmt: skip
        try:
            parts = {
                name: render(text, values, escapes=told.escapes)
                for name, text in template["TemplateContent"].items()
            }
        except TemplateError as error:
            raise Refusal(400, "BadRequestException", f"{error}") from None
        except RenderingFailure as error:
            mail.failure = f"{error}"
            return mail
        mail.subject = parts.pop("Subject")
        mail.html, mail.text = parts.get("Html"), parts.get("Text")
        fields = _fields(request, mail.subject, entry["Destination"])
        raw = message(fields, mail.headers, mail.message_id, parts)
        mail.raw = base64.b64encode(raw).decode()
        return mail

    def _message_id(self) -> str:
        return f"0107019{next(self._numbers):09x}-ses-000000"


def _spoilt(results: list[dict[str, str]], fault: dict[str, Any]) -> list[dict[str, str]]:
    if fault.get("same_ids"):
        for result in results:
            result["MessageId"] = "the-same"
    if fault.get("reverse"):
        results = results[::-1]
    extra = [{"Status": "SUCCESS", "MessageId": f"extra-{n}"} for n in range(fault.get("add", 0))]
    return results[: len(results) - fault.get("drop", 0)] + extra


def _recipients(destination: dict[str, Any]) -> list[str]:
    found = [address for _, address in getaddresses(destination["ToAddresses"])]
    if not all(re.fullmatch(r"[!-~]+@[a-zA-Z0-9.\[\]-]+", address) for address in found):
        raise Refusal(400, "BadRequestException", "Illegal address")
    return found


def _fields(request: dict[str, Any], subject: str, destination: dict[str, Any]) -> dict[str, str]:
    if re.search(r"[\r\n]", subject):
        raise Refusal(400, "BadRequestException", "Header value contains a line break")
    return {
        "From": request["FromEmailAddress"],
        "To": ", ".join(destination["ToAddresses"]),
        "Reply-To": ", ".join(request.get("ReplyToAddresses", [])),
        "Subject": encoded(subject),
    }


def _check_headers(headers: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    names = [header["Name"].lower() for header in headers]
    long = any(len(header["Name"]) + len(header["Value"]) > 996 for header in headers)
    if DISALLOWED & set(names) or len(set(names)) < len(names) or len(names) > 15 or long:
        raise Refusal(400, "BadRequestException", f"Headers can't be used: {names}")
    return list(headers)


def _check_tags(tags: Sequence[dict[str, str]]) -> dict[str, str]:
    for tag in tags:
        if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,256}", tag[key]) for key in ("Name", "Value")):
            raise Refusal(400, "BadRequestException", f"Invalid tag {tag}")
    return {tag["Name"]: tag["Value"] for tag in tags}

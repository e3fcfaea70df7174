"""Mail addresses: checked by RFC 5321, brought to the one form in which they are stored and sent.

Plain ASCII addresses take a short way; the rest is `email-validator`'s, without DNS. Domains become
A-labels in lower case. Nothing here says that an address exists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, cast

from email_validator import EmailNotValidError, validate_email

from mailer.errors import MailerError
from mailer.mime import split_mailbox

MAX_LOCAL_BYTES: Final = 64
MAX_DOMAIN_BYTES: Final = 255
MAX_BYTES: Final = 254
"""RFC 5321 section 4.5.3.1, the last one by the path's 256 with its angle brackets."""
MAX_NAME_CHARS: Final = 255

_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# Labels with `--` (A-labels among them) are left to the library, which knows which are real.
_PLAIN: Final = re.compile(
    rf"(?!.*--.*\Z)({_ATEXT}(?:\.{_ATEXT})*)@((?:{_LABEL}\.)+[A-Za-z](?:[A-Za-z0-9]{{0,62}}))"
)
_LOWER_PLAIN: Final = re.compile(
    rf"(?=.{{1,{MAX_BYTES}}}\Z)(?=[^@]{{1,{MAX_LOCAL_BYTES}}}@)(?!.*--)"
    rf"{_ATEXT}(?:\.{_ATEXT})*@(?:{_LABEL}\.)+[A-Za-z][A-Za-z0-9]{{0,62}}".replace("A-Z", "")
)
_NO_TEXT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class AddressError(MailerError):
    """No address mail can be sent to; `code` says which kind of fault this is."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def normalized(text: str) -> str:
    """The address as it is stored. Raises AddressError with the reason."""
    match = _PLAIN.fullmatch(text) if len(text) <= MAX_BYTES else None
    if match and len(match[1]) <= MAX_LOCAL_BYTES:
        return f"{match[1]}@{match[2].lower()}"
    return _slowly(text)


def all_as_stored(texts: Sequence[str | None]) -> bool:
    """Whether each is plain, in lower case, and thus stored as it is: quick to say of many."""
    return None not in texts and all(map(_LOWER_PLAIN.fullmatch, cast(Sequence[str], texts)))


def mailbox(text: str) -> str:
    """`Name <address>` or a bare address, as it is stored. Raises AddressError."""
    name, address = split_mailbox(text)
    address = normalized(address)
    if not name:
        return address
    check_name(name)
    escaped = re.sub(r'(["\\])', r"\\\1", name)
    return f'"{escaped}" <{address}>'


def check_name(name: str) -> None:
    """Raises AddressError for a display name that could break a header."""
    if _NO_TEXT.search(name):
        raise AddressError("name_invalid", "a name can't have control characters or line breaks")
    if len(name) > MAX_NAME_CHARS:
        raise AddressError("name_too_long", f"a name has at most {MAX_NAME_CHARS} characters")


def _slowly(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError("address_invalid", "an address has an @")
    if not local.isascii():
        raise AddressError(
            "local_part_not_ascii",
            "the part before the @ has non-ASCII characters, which need SMTPUTF8 (RFC 6531) on"
            " every server of the way; most providers, Amazon SES among them, have none",
        )
    if len(local) > MAX_LOCAL_BYTES:
        raise AddressError("address_too_long", f"more than {MAX_LOCAL_BYTES} bytes before the @")
    if len(domain) > MAX_DOMAIN_BYTES:
        raise AddressError("address_too_long", f"more than {MAX_DOMAIN_BYTES} characters after @")
    if text.isascii() and len(text) > MAX_BYTES:
        raise AddressError("address_too_long", f"more than {MAX_BYTES} bytes in all")
    try:
        found = validate_email(
            text,
            check_deliverability=False,
            allow_smtputf8=False,
            allow_quoted_local=True,
            globally_deliverable=False,
        )
    except EmailNotValidError as error:
        raise AddressError("address_invalid", str(error)) from None
    address = f"{found.local_part}@{found.ascii_domain.lower()}"
    if "." not in found.ascii_domain or found.ascii_domain.rpartition(".")[2].isdigit():
        raise AddressError("address_invalid", "what stands after the @ is no complete domain")
    if len(address) > MAX_BYTES:
        raise AddressError("address_too_long", f"more than {MAX_BYTES} bytes in all")
    if not re.fullmatch(r"[!-~]+", address):
        raise AddressError("address_invalid", "spaces and control characters can't be sent to")
    return address

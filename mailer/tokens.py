"""Signed tokens for everything a stranger can send back: open pixel, click, unsubscribe.

A token is base64url(MAC ‖ payload) without padding. The MAC is HMAC-SHA256 over purpose, NUL and
payload, cut to 128 bits (RFC 2104 section 5 allows half the hash). Exactly one string verifies
for each payload, and a token made for one purpose is worth nothing for another.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

OPEN: Final = "open"
CLICK: Final = "click"
UNSUBSCRIBE: Final = "unsubscribe"

MAX_TOKEN_CHARS: Final = 4096
"""Longer ones are not looked at; it leaves room for a URL of about 3,000 bytes."""

_MAC_BYTES: Final = 16


def sign(key: bytes, purpose: str, payload: str) -> str:
    """Make the token of this payload. Raises ValueError when it would be too long to verify."""
    data = payload.encode()
    token = urlsafe_b64encode(_mac(key, purpose, data) + data).rstrip(b"=").decode("ascii")
    if len(token) > MAX_TOKEN_CHARS:
        raise ValueError(f"a token of {len(token)} characters; at most {MAX_TOKEN_CHARS}")
    return token


def verify(key: bytes, purpose: str, token: str) -> str | None:
    """Return the payload, or None for whatever `sign` did not make. Never raises."""
    if len(token) > MAX_TOKEN_CHARS:
        return None
    try:
        payload = urlsafe_b64decode(token + "=" * (-len(token) % 4))[_MAC_BYTES:].decode()
        # Signing again, instead of comparing MACs, leaves no second spelling of a token:
        # base64 decoders overlook foreign characters, padding and unused bits.
        expected = sign(key, purpose, payload).encode()
    except ValueError:
        return None
    return payload if hmac.compare_digest(expected, token.encode()) else None


def sign_click(key: bytes, request_id: str, url: str) -> str:
    """Make the token of one link in one mail. Raises ValueError when the URL is too long."""
    return sign(key, CLICK, f"{request_id} {url}")


def verify_click(key: bytes, token: str) -> tuple[str, str] | None:
    """Return (request_id, url), or None for whatever `sign_click` did not make."""
    payload = verify(key, CLICK, token)
    if payload is None:
        return None
    request_id, _, url = payload.partition(" ")
    return request_id, url


def sign_unsubscribe(key: bytes, request_id: str, email: str, scope: str) -> str:
    """Make the token of one mail's unsubscribe link.

    It says all that is needed, since the link must work when the mail is long forgotten.
    """
    return sign(key, UNSUBSCRIBE, f"{request_id} {email} {scope}")


def verify_unsubscribe(key: bytes, token: str) -> tuple[str, str, str] | None:
    """Return (request_id, email, scope), or None for whatever `sign_unsubscribe` did not make."""
    payload = verify(key, UNSUBSCRIBE, token)
    if payload is None:
        return None
    request_id, _, rest = payload.partition(" ")
    email, _, scope = rest.partition(" ")
    return request_id, email, scope


def _mac(key: bytes, purpose: str, data: bytes) -> bytes:
    return hmac.digest(key, purpose.encode() + b"\0" + data, hashlib.sha256)[:_MAC_BYTES]

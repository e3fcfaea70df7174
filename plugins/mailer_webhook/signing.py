"""Signatures by the Standard Webhooks specification 1.0, and the secrets they are made with.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32


def new_secret() -> str:
    """A secret in the form that receivers' libraries take."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(
    webhook_id: str, body: bytes, *, secrets: Sequence[str], now_ms: int
) -> dict[str, str]:
    """The three headers of one attempt, with a signature by each secret.

    `webhook_id` stays the same at every attempt; it and the time have no dot, by which the
    signed parts are joined.
    """
    now_s = str(now_ms // 1000)
    content = b".".join((webhook_id.encode(), now_s.encode(), body))
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": now_s,
        "webhook-signature": " ".join(_signature(secret, content) for secret in secrets),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()

"""Addresses in the log: left out of words, and where one has to be told apart, a keyed hash of it.

The key is the installation's own, so that nobody who has the log alone can try addresses until one
fits; who has the installation finds what happened to an address (`mailer hash`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

MASK: Final = "[address]"
HASH_BYTES: Final = 8

# Wider than RFC 5321 section 4.1.2 has it: what only looks like an address is masked too, also one
# that a URL holds.
_ADDRESS: Final = re.compile(
    r"""(?:"(?:[^"\\]|\\.)*"|[^\s<>"(),:;\[\]\\]+)(?:@|%40)(?:\[[^\s\]]*\]|[^\s<>"'(),:;\[\]]+)"""
)
_CODE: Final = re.compile(
    r"[2-5][0-9]{2}(?: [2-5]\.[0-9]{1,3}\.[0-9]{1,3})?\b"  # RFC 5321 4.2, RFC 3463
    r"|(?:[A-Z][a-z]+){2,}(?=:|$)|[A-Z]+(?:_[A-Z]+)+(?=:|$)"  # AWS: MessageRejected, …
)


def masked(text: str) -> str:
    """The text with a mask in place of each address."""
    return _ADDRESS.sub(MASK, text) if "@" in text or "%40" in text else text


def address_hash(key: bytes, address: str) -> str:
    """The same for one address however it is written, and of no use without the key."""
    written = address.strip().lower().encode()
    return hmac.digest(key, b"log\0" + written, hashlib.sha256)[:HASH_BYTES].hex()


def code_of(words: str) -> str:
    """The code that a provider's words begin with, if they do.

    All the words may repeat anything of the mail they refuse.
    """
    match = _CODE.match(words)
    return match[0] if match else ""

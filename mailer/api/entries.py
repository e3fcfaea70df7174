"""Checks of an entry of the suppression list as people give it: to the API, on the command line,
in a file.
"""

from __future__ import annotations

from typing import Final

from mailer.api import addresses, content
from mailer.errors import Fault

MAX_DETAIL_CHARS: Final = 1_000


def checked(email: str | None, scope: str, detail: str) -> tuple[str, list[Fault]]:
    """The address as it is stored, and every fault of the entry. Without an address: the rest's."""
    faults: list[Fault] = []
    address = ""
    if email is not None:
        try:
            address = addresses.normalized(email)
        except addresses.AddressError as error:
            faults.append(Fault("email", error.code, str(error)))
    if scope and ("/" in scope or not content.is_topic_id(scope)):
        text = "a group is what stands before the first / of a topic_id; empty: everywhere"
        faults.append(Fault("scope", "scope_invalid", text))
    if len(detail) > MAX_DETAIL_CHARS:
        faults.append(Fault("detail", "too_long", f"at most {MAX_DETAIL_CHARS} characters"))
    return address, faults

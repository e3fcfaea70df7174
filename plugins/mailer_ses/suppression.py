"""The suppression list that SES keeps for the account, read and added to at a polite rate.

Both ways may be cut short and repeated: what is there already is not put again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from mailer.mail import Suppression
from mailer.vocabulary import SCOPE_EVERYWHERE, SuppressionReason
from mailer_ses import outcomes
from mailer_ses.account import Client, Refused

PAUSE_S: Final = 1.0
"""AWS takes about one call a second of those that don't send
(https://docs.aws.amazon.com/ses/latest/dg/quotas.html)."""
PAGE: Final = 1_000
TRIES: Final = 6
"""With ever longer pauses: a minute in all."""
DETAIL: Final = "from the suppression list of the SES account"

_OURS: Final[Mapping[str, SuppressionReason]] = {
    "BOUNCE": SuppressionReason.BOUNCE,
    "COMPLAINT": SuppressionReason.COMPLAINT,
}
_THEIRS: Final = {ours: theirs for theirs, ours in _OURS.items()}

Pause = Callable[[float], None]


def listed(client: Client, pause: Pause) -> Iterator[Suppression]:
    """All of the account's list. Raises Refused, NotSent or NoAnswer."""
    request: dict[str, Any] = {"PageSize": PAGE}
    while True:
        page = _patiently(client, pause, "list_suppressed_destinations", request)
        for entry in page.get("SuppressedDestinationSummaries", ()):
            yield Suppression(
                email=entry["EmailAddress"],
                scope=SCOPE_EVERYWHERE,
                reason=_OURS.get(entry["Reason"], SuppressionReason.PROVIDER),
                detail=DETAIL,
                created_at_ms=int(entry["LastUpdateTime"].timestamp() * 1000),
            )
        if not page.get("NextToken"):
            return
        request["NextToken"] = page["NextToken"]
        pause(PAUSE_S)


def put(
    client: Client, entries: Iterable[Suppression], pause: Pause, progress: Callable[[int], None]
) -> tuple[int, int, int]:
    """Add bounces and complaints that hold everywhere: SES has no other reason and no groups.

    How many were added, how many were there, and how many are not for this list. `progress` is
    told after each how many were added. Raises Refused, NotSent or NoAnswer.
    """
    known = {entry.email.lower() for entry in listed(client, pause)}
    added = present = left = 0
    for entry in entries:
        if entry.scope != SCOPE_EVERYWHERE or entry.reason not in _THEIRS:
            left += 1
        elif entry.email.lower() in known:
            present += 1
        else:
            pause(PAUSE_S)
            request = {"EmailAddress": entry.email, "Reason": _THEIRS[entry.reason]}
            _patiently(client, pause, "put_suppressed_destination", request)
            added += 1
            progress(added)
    return added, present, left


def _patiently(
    client: Client, pause: Pause, operation: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    for number in range(TRIES):
        try:
            return client.ask(operation, **request)
        except Refused as error:
            too_fast = outcomes.rule_for(error.code, error.words, error.status) is outcomes.TOO_FAST
            if not too_fast or number == TRIES - 1:
                raise
            pause(PAUSE_S * 2**number)
    raise AssertionError("the last try returns or raises")

"""The fake's suppression list of the account: what is told, and what is put; read page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.ses.mailing import Refusal

if TYPE_CHECKING:
    from tests.ses.fake_ses import Told

SINCE = 1_700_000_000
"""When every entry was made, in seconds since 1970."""


class SuppressionList:
    """One call at a time."""

    def __init__(self) -> None:
        self._put: dict[str, str] = {}

    def answers(self, name: str) -> bool:
        return name in {"ListSuppressedDestinations", "PutSuppressedDestination"}

    def answer(self, name: str, request: dict[str, Any], told: Told) -> dict[str, Any]:
        """Raises Refusal."""
        if name == "PutSuppressedDestination":
            self._put[request["EmailAddress"]] = request["Reason"]
            return {}
        listed = sorted((told.suppressed | self._put).items())
        start = int(request.get("NextToken", "0"))
        if start > len(listed):
            raise Refusal(400, "InvalidNextTokenException", "The specified token is invalid.")
        end = start + min(told.suppression_page, request.get("PageSize", 1000))
        page: dict[str, Any] = {
            "SuppressedDestinationSummaries": [
                {"EmailAddress": email, "Reason": reason, "LastUpdateTime": SINCE}
                for email, reason in listed[start:end]
            ]
        }
        if end < len(listed):
            page["NextToken"] = str(end)
        return page

"""The fake's verified identities: those that `Told.verified` names, and some not yet verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.ses.mailing import Refusal

if TYPE_CHECKING:
    from tests.ses.fake_ses import Told


def identity(request: dict[str, Any], told: Told) -> dict[str, Any]:
    """The answer to GetEmailIdentity. Raises Refusal."""
    name = request["EmailIdentity"]
    if name not in [*told.verified, *told.unverified]:
        raise Refusal(404, "NotFoundException", f"Email identity {name} does not exist.")
    return {
        "IdentityType": "EMAIL_ADDRESS" if "@" in name else "DOMAIN",
        "VerifiedForSendingStatus": name in told.verified,
    }

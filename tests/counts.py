"""How often things are tried: a tenth of the full counts, unless MAILER_FULL=1 asks for all."""

from __future__ import annotations

import os

FULL = os.environ.get("MAILER_FULL") == "1"


def often(full: int) -> int:
    """How many of the full count to do now."""
    return full if FULL else max(1, full // 10)

"""Telling of detours: that mail goes by another transport than the preferred one, and no more.

The senders decide it for themselves, each time they claim; here it is said, in the log and as an
event of type `other`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from mailer.masking import code_of
from mailer.routing import Ways, route_of
from mailer.store import Store

log = logging.getLogger("mailer.detours")


def warn_of_stranded(store: Store, transports: Collection[str]) -> None:
    """Name the mail that waits for transports which these settings do not have."""
    for depth in store.status.depths():
        if depth.mails and not set(route_of(depth.queue)).intersection(transports):
            log.warning(
                "%d mails wait for %s, which is not configured here: configure it, or cancel them",
                depth.mails,
                depth.transport,
            )


class Detours:
    """Those that have been told of, as pairs: the preferred transport, and which takes its mail."""

    def __init__(self, ways: Ways, trouble_ms: int) -> None:
        self._ways = ways
        self._trouble_ms = trouble_ms
        self._told: frozenset[tuple[str, str]] = frozenset()

    def look(self, store: Store, now_ms: int) -> None:
        """Note who is in trouble, and tell what has changed."""
        if store.transports.trouble_to_note():
            with store.write():
                store.transports.note_trouble(now_ms)
        now = self._ways.detours(store.transports.out_of_service(now_ms, self._trouble_ms))
        if now == self._told:
            return
        with store.write():
            for transport, taker in sorted(now - self._told):
                state = store.transports.get(transport)
                why = state.blocked_reason if state else ""
                sentence = f"{transport} takes no mail: {why}; mail that may goes by {taker}"
                # Not why: a provider's words may repeat the mail they were said of.
                log.warning(
                    "%s takes no mail; mail that may goes by %s",
                    transport,
                    taker,
                    extra={"transport": transport, "code": code_of(why)},
                )
                store.transports.announce(transport, sentence, now_ms)
            for transport, taker in sorted(self._told - now):
                sentence = f"mail of {transport} goes by {taker} no more"
                log.info("%s", sentence)
                store.transports.announce(transport, sentence, now_ms)
        self._told = now

"""Plugins that do as they are told, for tests of what a plugin may do and what it may not.

Found by child processes through the `dist-info` beside it, when this directory is on PYTHONPATH.
They are told by files beside the database, read anew each time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mailer.hookspecs import Access, ProviderEvent, Worker, hookimpl
from mailer.settings import Settings
from mailer.vocabulary import EventType


class Guest:
    """Offers a worker that counts its starts on its shelf, then does what `work` says."""

    @hookimpl
    def mailer_workers(self, settings: Settings) -> Mapping[str, Worker]:
        return {"guest": lambda access: _work(access, settings.database_path.parent / "work")}


def _work(access: Access, told: Path) -> None:
    with access.write():
        starts = int(access.shelf.get("starts") or 0) + 1
        access.shelf.put("starts", b"%d" % starts)
        access.shelf.put(f"start/{starts}", b"%d" % os.getpid())
    while not access.stopping:
        what, _, number = told.read_text().partition(" ") if told.exists() else ("", "", "")
        match what:
            case "eat":
                eaten = [bytes(1024 * 1024) for _ in range(int(number))]
                with access.write():
                    access.shelf.put("eaten", b"%d" % len(eaten))
            case "print":
                for _ in range(int(number)):
                    print("x" * (1024 * 1024), flush=True)
            case "raise":
                raise RuntimeError(number)
            case "learn":
                event = ProviderEvent(EventType.DELIVERY, 0, "guest", number, request_id=number)
                access.learn([event])
            case "return":
                return
        told.unlink(missing_ok=True)
        access.wait(60)


guest = Guest()

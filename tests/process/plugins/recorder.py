"""A transport that writes down when it was called, by whom and with what, and does as it is told.

Found by child processes through the `dist-info` beside it, when this directory is on PYTHONPATH.
The directory RECORDER holds `calls`, a line for each mail written at the instant `send` is
entered, and `behaviour.json`, read anew at each call; SECOND_RECORDER those of another such
transport, `second`. What a mail's recipient is called decides too: `exit@…` and `crash@…` end the
process, `slow@…` takes its time, `hang@…` never returns.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mailer.errors import TransportUnreachable
from mailer.hookspecs import Envelope, Outcome, Quota, Transport, hookimpl
from mailer.settings import Settings
from mailer.vocabulary import OutcomeKind


class Recorder:
    """Transport and session in one: nothing is kept between calls."""

    reports_events = False
    destination = "a file, for tests"

    def __init__(self, directory: Path) -> None:
        self._told = directory / "behaviour.json"
        self._calls = os.open(directory / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        told = self._behaviour()
        self.batch_size = int(told.get("batch_size", 1))
        self.max_in_flight = int(told.get("max_in_flight", 16))
        self.call_timeout_s = float(told.get("call_timeout_s", 60.0))

    def _behaviour(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._told.read_text())
        return told

    def open(self) -> Recorder:
        if self._behaviour().get("unreachable"):
            raise TransportUnreachable("nobody listens")
        return self

    def send(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        entered_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        lines = (f"{entered_ns} {os.getpid()} {envelope.request_id}\n" for envelope in envelopes)
        os.write(self._calls, "".join(lines).encode())
        told = self._behaviour()
        if told.get("unreachable"):
            raise TransportUnreachable("nobody listens")
        for envelope in envelopes:
            _misbehave(envelope.recipient.partition("@")[0], told)
        if told.get("delay_ms"):
            time.sleep(told["delay_ms"] / 1000)
        kind = OutcomeKind(told.get("outcome", "accepted"))
        outcome = Outcome(kind, "as told", halts=bool(told.get("halts")))
        return _answer(told.get("answer"), [outcome] * len(envelopes))

    def close(self) -> None:
        pass

    def quota(self) -> Quota:
        return Quota()


def _misbehave(name: str, told: Mapping[str, Any]) -> None:
    match name:
        case "slow":
            time.sleep(told["slow_ms"] / 1000)
        case "exit":
            os._exit(7)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            threading.Event().wait()


def _answer(how: str | None, outcomes: list[Outcome]) -> list[Outcome]:
    """What a transport owes, or what a poisonous one does instead."""
    match how:
        case "raise":
            raise RuntimeError("hunter2@example.com")
        case "none":
            return []
        case "more":
            return [*outcomes, *outcomes]
        case "never":
            threading.Event().wait()
    return outcomes


@hookimpl
def mailer_transports(settings: Settings) -> Mapping[str, Transport]:
    directories = {"recorder": "RECORDER", "second": "SECOND_RECORDER"}
    return {
        name: Recorder(Path(os.environ[variable]))
        for name, variable in directories.items()
        if variable in os.environ
    }

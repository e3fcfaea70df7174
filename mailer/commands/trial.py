"""The round trip of `mailer doctor --send`: mail through our own API, to addresses nobody reads,
and back as events. It leaves a topic of its own; suppressions it has caused are taken off again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import Any, Final

from mailer.commands.checks import FAILURE, OK
from mailer.commands.client import Answer, Api, explain
from mailer.commands.database import open_store
from mailer.commands.sending import own_api
from mailer.errors import ApiError
from mailer.hookspecs import Check, Probe
from mailer.settings import Settings

EVERY_S: Final = 0.5
TOPIC: Final = "mailer-doctor"


def round_trip(settings: Settings, probes: Sequence[Probe], patience_s: float) -> Iterator[Check]:
    """A line for each mail. Raises ApiError when the API can't be used, or OSError."""
    api = own_api(settings)
    began_s = time.monotonic()
    waiting = _posted(api, probes)
    try:
        while waiting and time.monotonic() < began_s + patience_s:
            time.sleep(EVERY_S)
            for mail_id, probe in list(waiting.items()):
                mail = _mail(api, mail_id)
                if probe.expected in {event["type"] for event in mail["events"]}:
                    del waiting[mail_id]
                    took_s = time.monotonic() - began_s
                    finding = f"{probe.expected} of {probe.address} came after {took_s:.1f} s"
                    yield Check(f"trial: {probe.expected}", OK, finding)
        for mail_id, probe in waiting.items():
            yield _missing(probe, _mail(api, mail_id), patience_s)
    finally:
        _forget(settings, probes)


def _posted(api: Api, probes: Sequence[Probe]) -> dict[str, Probe]:
    """Mail id → its probe."""
    posted: dict[str, Probe] = {}
    for probe in probes:
        message = {
            "topic_id": TOPIC,
            "subject": "mailer doctor",
            "text": "Sent by `mailer doctor --send`.",
            "emails": [probe.address],
        }
        request = {"messages": [message], "transport": probe.transport}
        answer = _json(_called(api, "POST", "/v1/messages", json.dumps(request).encode()))
        posted[answer["messages"][0]["request_ids"][0]] = probe
    return posted


def _mail(api: Api, mail_id: str) -> Mapping[str, Any]:
    mail: Mapping[str, Any] = _json(_called(api, "GET", f"/v1/mails/{mail_id}"))
    return mail


def _called(api: Api, method: str, path: str, body: bytes | None = None) -> Answer:
    headers = {"content-type": "application/json"} if body else {}
    try:
        return api.call(method, path, body, headers)
    except (OSError, HTTPException) as error:
        raise ApiError(f"{api.base_url} does not answer: {error}") from None


def _json(answer: Answer) -> Any:
    if answer.status != 200:
        raise ApiError(f"{answer.status}: {explain(answer)}")
    return answer.json()


def _missing(probe: Probe, mail: Mapping[str, Any], patience_s: float) -> Check:
    name = f"trial: {probe.expected}"
    state, detail = mail["state"], mail.get("detail") or ""
    finding = f"no {probe.expected} of {probe.address} within {patience_s:g} s; it is {state}"
    if detail:
        finding += f": {detail}"
    if state == "sent":
        advice = "it was handed over; the lines about events say what may keep them back"
    else:
        advice = "`mailer status` says why mail waits; --patience gives it longer"
    return Check(name, FAILURE, finding, advice)


def _forget(settings: Settings, probes: Sequence[Probe]) -> None:
    store = open_store(settings)
    try:
        with store.write():
            for probe in probes:
                store.suppressions.remove(probe.address, scope=None)
    finally:
        store.close()

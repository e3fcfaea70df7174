"""Error reports to Sentry, of every process.

What goes there: the type of an exception, the places in the code it passed, process and release.
No messages, variables, headers or bodies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration
from sentry_sdk.transport import Transport

import mailer

_FRAME_KEYS: Final = ("filename", "module", "function", "lineno", "in_app")


def start(dsn: str, process_name: str, transport: Transport | None) -> None:
    """Report this process's errors from now on."""
    sentry_sdk.init(
        dsn=dsn,
        release=f"mailer@{mailer.__version__}",
        server_name=process_name,
        environment="production",
        transport=transport,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            AtexitIntegration(callback=lambda pending, timeout: None),
            DedupeIntegration(),
            ExcepthookIntegration(),
            ThreadingIntegration(),
        ],
        include_local_variables=False,
        include_source_context=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        before_send=lambda event, hint: only_allowed(event, process_name),  # type: ignore[arg-type, return-value]
    )


def report(error: BaseException) -> None:
    sentry_sdk.capture_exception(error)


def only_allowed(event: Mapping[str, Any], process_name: str) -> dict[str, Any]:
    """Build what may leave the machine, anew, from what is known to be harmless."""
    exceptions = (event.get("exception") or {}).get("values") or []
    return {
        "event_id": event.get("event_id"),
        "timestamp": event.get("timestamp"),
        "platform": event.get("platform"),
        "level": event.get("level"),
        "release": event.get("release"),
        "environment": event.get("environment"),
        "server_name": process_name,
        "exception": {"values": [_exception(value) for value in exceptions]},
    }


def _exception(value: Mapping[str, Any]) -> dict[str, Any]:
    frames = (value.get("stacktrace") or {}).get("frames") or []
    return {
        "type": value.get("type"),
        "module": value.get("module"),
        "stacktrace": {
            "frames": [{key: frame.get(key) for key in _FRAME_KEYS} for frame in frames]
        },
    }

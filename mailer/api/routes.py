"""Every path the API serves, in one table: resource, methods, scopes, bodies, answers."""

from __future__ import annotations

from typing import Any, Final

from mailer.api import answers, requests
from mailer.api.backend import Backend
from mailer.api.batches import OneBatch
from mailer.api.counts import MAX_HOURS, SentCount
from mailer.api.events import MAX_WAIT_S, Events
from mailer.api.health import Health, Readiness
from mailer.api.mails import MAX_PAGE, Mails, OneMail
from mailer.api.messages import Messages
from mailer.api.metrics import Metrics
from mailer.api.notifications import Notifications
from mailer.api.openapi import OpenApi
from mailer.api.operations import Operation, Route
from mailer.api.plugin_routes import plugin_routes
from mailer.api.suppressions import Suppressions
from mailer.api.topics import ACTIONS, OneTopic, Topics
from mailer.api.tracking import Click, Open, Unsubscribe
from mailer.endpoints import Parameter, Scope
from mailer.vocabulary import EventType, State


def routes(backend: Backend) -> tuple[Route, ...]:
    """What is served. Without a token: health, and what strangers send back, signed.

    Raises PluginError when a plugin's call can't be served.
    """
    ours = (
        *_health(backend),
        *_messages(backend),
        *_mails(backend),
        *_topics(backend),
        *_suppressions(backend),
        *_log(backend),
        *_events(backend),
    )
    table = (*ours, *plugin_routes(backend, ours))
    own = Operation("This document", "application/json")
    return (*table, Route("/openapi.json", OpenApi(table, own), {"GET": own}))


def _whole_number(low: int, high: int, default: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high, "default": default}


_AFTER: Final = Parameter("after", "The `next` of the page before.")
_LIMIT: Final = Parameter("limit", "Entries of a page.", _whole_number(1, MAX_PAGE, 100))
_TOKEN: Final = Parameter("token", "Signed; made by mailer.")


def _health(backend: Backend) -> tuple[Route, ...]:
    return (
        Route("/health", Health(), {"GET": Operation("Is the process alive?", answers.Healthy)}),
        Route("/ready", Readiness(backend), {"GET": Operation("Can it serve?", answers.Ready)}),
        Route(
            "/metrics",
            Metrics(backend),
            {"GET": Operation("Metrics for Prometheus", "text/plain", scope=Scope.METRICS)},
        ),
    )


def _messages(backend: Backend) -> tuple[Route, ...]:
    key = Parameter(
        "Idempotency-Key",
        "The same request under the same key is done once; its answer is kept 48 hours.",
        {"type": "string", "minLength": 1, "maxLength": 255},
        place="header",
    )
    accept = Operation(
        "Accept mail: 1 to 10,000 mails, all on disk when this answers 200",
        answers.Accepted,
        scope=Scope.SEND,
        body=requests.MessagesBody,
        parameters=(key,),
        statuses=(409,),
    )
    return (
        Route("/v1/messages", Messages(backend), {"POST": accept}),
        Route(
            "/v1/batches/{batch_id}",
            OneBatch(backend),
            {
                "GET": Operation("One batch", answers.BatchAnswer, scope=Scope.READ),
                "DELETE": Operation("Cancel a batch", answers.BatchCancelled, scope=Scope.SEND),
            },
        ),
    )


def _mails(backend: Backend) -> tuple[Route, ...]:
    state = Parameter("state", "Only mails in it.", {"type": "string", "enum": [*State]})
    filters = (
        Parameter("topic_id", "Only mails of this topic."),
        Parameter("recipient", "Only mails to this address."),
        state,
        Parameter("batch_id", "Only mails of this batch."),
        _AFTER,
        _LIMIT,
    )
    reschedule = Operation(
        "Give a waiting mail another due time",
        answers.MailAnswer,
        scope=Scope.SEND,
        body=requests.RescheduleBody,
        statuses=(409,),
    )
    return (
        Route(
            "/v1/mails",
            Mails(backend),
            {"GET": Operation("Mails", answers.MailList, scope=Scope.READ, parameters=filters)},
        ),
        Route(
            "/v1/mails/{request_id}",
            OneMail(backend),
            {
                "GET": Operation("One mail's history", answers.MailHistory, scope=Scope.READ),
                "PATCH": reschedule,
                "DELETE": Operation(
                    "Cancel a mail", answers.MailCancelled, scope=Scope.SEND, statuses=(409,)
                ),
            },
        ),
    )


def _topics(backend: Backend) -> tuple[Route, ...]:
    steer = Operation(
        f"Steer all mail of a topic: {', '.join(ACTIONS)}",
        answers.TopicSteered,
        scope=Scope.ADMIN,
        path="/v1/topics/{topic_id}/{action}",
    )
    return (
        Route(
            "/v1/topics",
            Topics(backend),
            {
                "GET": Operation(
                    "Topics", answers.TopicList, scope=Scope.READ, parameters=(_AFTER, _LIMIT)
                )
            },
        ),
        Route(
            "/v1/topics/{topic_id:path}",
            OneTopic(backend),
            {
                "GET": Operation("A topic's counters", answers.TopicAnswer, scope=Scope.READ),
                "DELETE": Operation("Cancel a topic", answers.Cancelled, scope=Scope.SEND),
                "POST": steer,
            },
        ),
    )


def _suppressions(backend: Backend) -> tuple[Route, ...]:
    email = Parameter("email", "The address.")
    scope = Parameter("scope", "A group of topics; empty: everywhere. When absent: in all scopes.")
    look = Operation(
        "Addresses not to be written to",
        answers.SuppressionList,
        scope=Scope.READ,
        parameters=(email, _AFTER, _LIMIT),
    )
    add = Operation(
        "Suppress an address",
        answers.SuppressionChanged,
        scope=Scope.ADMIN,
        body=requests.SuppressionBody,
    )
    remove = Operation(
        "Allow an address again",
        answers.SuppressionChanged,
        scope=Scope.ADMIN,
        parameters=(email, scope),
    )
    resource = Suppressions(backend)
    return (Route("/v1/suppressions", resource, {"GET": look, "POST": add, "DELETE": remove}),)


def _log(backend: Backend) -> tuple[Route, ...]:
    parameters = (
        Parameter("after", "The `next` of the page before, or an event's id; `end`: what is new."),
        Parameter("topic_id", "Only events of this topic."),
        Parameter("type", "Only events of this type.", {"type": "string", "enum": [*EventType]}),
        _LIMIT,
        Parameter(
            "wait",
            "Seconds to wait for an event when there is none.",
            _whole_number(0, MAX_WAIT_S, 0),
        ),
    )
    page = Operation(
        "The event log, oldest first", answers.EventPage, scope=Scope.READ, parameters=parameters
    )
    return (Route("/v1/events", Events(backend), {"GET": page}),)


def _events(backend: Backend) -> tuple[Route, ...]:
    hours = Parameter("hours", "How far back.", _whole_number(1, MAX_HOURS, 24))
    return (
        Route(
            "/v1/events/counts/sent",
            SentCount(backend),
            {
                "GET": Operation(
                    "Mails sent", answers.SentCounts, scope=Scope.READ, parameters=(hours,)
                )
            },
        ),
        Route(
            "/v1/events/results",
            Notifications(backend),
            {
                "POST": Operation(
                    "A provider's callback", answers.Learnt, body="*/*", statuses=(403,)
                )
            },
        ),
        Route(
            "/v1/events/open",
            Open(backend),
            {
                "GET": Operation(
                    "The open pixel", "image/png", parameters=(Parameter("request_id", "Signed."),)
                )
            },
        ),
        Route(
            "/v1/events/click",
            Click(backend),
            {"GET": Operation("A tracked link", None, parameters=(_TOKEN,), statuses=(302,))},
        ),
        Route(
            "/v1/unsubscribe",
            Unsubscribe(backend),
            {
                "GET": Operation("Ask whether to", "text/html", parameters=(_TOKEN,)),
                "POST": Operation(
                    "Unsubscribe (RFC 8058)",
                    "text/html",
                    body="application/x-www-form-urlencoded",
                    parameters=(_TOKEN,),
                ),
            },
        ),
    )

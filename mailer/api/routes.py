"""Every path the API serves, in one table."""

from __future__ import annotations

from mailer.api.answers import (
    Accepted,
    Cancelled,
    Healthy,
    Ready,
    TopicAnswer,
    TopicList,
    TopicSteered,
)
from mailer.api.backend import Backend
from mailer.api.health import Health, Readiness
from mailer.api.messages import Messages
from mailer.api.operations import Operation, Route, Scope
from mailer.api.requests import MessagesBody
from mailer.api.topics import OneTopic, Topics


def routes(backend: Backend) -> tuple[Route, ...]:
    return (
        Route("/health", Health(), {"GET": Operation("Is the process alive?", Healthy)}),
        Route("/ready", Readiness(backend), {"GET": Operation("Can it serve?", Ready)}),
        Route(
            "/v1/messages",
            Messages(backend),
            {"POST": Operation("Accept mail", Accepted, scope=Scope.SEND, body=MessagesBody)},
        ),
        Route(
            "/v1/topics", Topics(backend), {"GET": Operation("Topics", TopicList, scope=Scope.READ)}
        ),
        Route(
            "/v1/topics/{topic_id:path}",
            OneTopic(backend),
            {
                "GET": Operation("A topic's counters", TopicAnswer, scope=Scope.READ),
                "DELETE": Operation("Cancel", Cancelled, scope=Scope.SEND),
                "POST": Operation("Steer", TopicSteered, scope=Scope.ADMIN),
            },
        ),
    )

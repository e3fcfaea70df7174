"""What the API's operations need and give, as data: authentication and `/openapi.json` read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import Struct

from mailer.endpoints import Parameter, Scope


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    summary: str
    answer: type[Struct] | str | None
    """What a 200 holds: JSON of this type, or this media type."""
    scope: Scope | None = None
    """None: for everybody, without a token."""
    body: type[Struct] | str | None = None
    """What it takes: JSON of this type, or this media type."""
    parameters: tuple[Parameter, ...] = ()
    statuses: tuple[int, ...] = ()
    """Further statuses beside 200 and those that any operation may answer."""
    path: str | None = None
    """The path to document, where the route's template is not it."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path, the resource that serves it, and its operations by method."""

    template: str
    resource: object
    operations: Mapping[str, Operation]

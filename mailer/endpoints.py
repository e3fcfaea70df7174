"""What a plugin's calls in the API are, as data: the hook `mailer_routes` returns them.

They stand in the same table as mailer's own, with the same authentication, the same problems as
answers to what is wrong, and the same place in `/openapi.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from mailer.hookspecs import Shelf


class Scope(StrEnum):
    """What a token may do; a token without the claim `scope` may do everything."""

    SEND = "send"
    READ = "read"
    ADMIN = "admin"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or header, with its JSON schema."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked as far as its endpoint describes it."""

    path: Mapping[str, str]
    """What stands for each `{name}` of the path."""
    query: Mapping[str, Any]
    """Each parameter of the endpoint: what was given, else its default, else None."""
    body: Any
    """Of the endpoint's `body` type; None when it takes none."""
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path."""

    method: str
    """GET, which reads; POST, PUT, PATCH or DELETE, which may change the plugin's shelf."""
    path: str
    """`/v1/…`; a segment is a-z, 0-9 and - or `{name}`. The first one is the plugin's alone."""
    summary: str
    """Its line in the documentation."""
    scope: Scope | None
    """None: for everybody, without a token."""
    answer: type[Struct]
    """What a 200 holds, as JSON."""
    handler: Callable[[Call, Shelf], Struct]
    """Makes the answer. Raise `InvalidRequest` (422), `NotFound` (404) or `Conflict` (409); after
    any other exception the client is answered 500. What raises has stored nothing."""
    body: type[Struct] | None = None
    """The JSON it takes; with `forbid_unknown_fields` unknown ones are refused."""
    parameters: tuple[Parameter, ...] = ()
    """In the query: texts, or whole numbers when the schema's type is integer, with its `minimum`,
    `maximum` and `default`."""
    statuses: tuple[int, ...] = ()
    """Further statuses beside 200 and those that any call may answer (404 is one)."""

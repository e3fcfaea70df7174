"""The calls that plugins add: checked when the API is put together, then served like our own.

What changes something runs in the writer's transaction, what reads in the thread for lists, each
with the plugin's own shelf. A handler that raises harms no other request.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import falcon.asgi
from falcon.routing import CompiledRouter
from msgspec import Struct

from mailer import plugins, reporting
from mailer.api.answers import encoded
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.api.operations import Operation, Route
from mailer.api.problems import Refused
from mailer.api.query import Query
from mailer.api.requests import parse
from mailer.endpoints import Call, Endpoint, Parameter
from mailer.errors import InvalidRequest, PluginError, RequestError, StoreError
from mailer.store import Store

READS: Final = "GET"
CHANGES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_PATH: Final = re.compile(r"/v1(/([a-z0-9-]+|{[a-z_]+}))+")
LARGEST: Final = 10**15 - 1


def plugin_routes(backend: Backend, ours: Collection[Route]) -> Iterator[Route]:
    """What the plugins serve beside `ours`.

    Raises PluginError, naming the plugin, for an endpoint that is not well-formed or collides.
    """
    owners = {_first_segment(route.template): "mailer" for route in ours}
    for plugin, endpoints in plugins.ask(
        backend.plugins, "mailer_routes", settings=backend.settings
    ):
        by_path: dict[str, dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            if not isinstance(endpoint, Endpoint):
                raise PluginError(f"plugin {plugin}: mailer_routes gave {endpoint!r}, no Endpoint")
            methods = by_path.setdefault(endpoint.path, {})
            problem = _problem(endpoint, owners, plugin)
            if problem is None and methods.setdefault(endpoint.method, endpoint) is not endpoint:
                problem = "it is there twice"
            if problem is not None:
                raise _cannot(plugin, f"{endpoint.method} {endpoint.path}", problem)
        router = CompiledRouter()  # finds paths that can't be told apart
        for path, methods in by_path.items():
            resource = PluginResource(backend, plugin, methods)
            try:
                router.add_route(path, object())
            except ValueError as error:
                raise _cannot(plugin, path, f"{error}") from None
            yield Route(path, resource, {m: _operation(e) for m, e in methods.items()})


class PluginResource:
    """One path of a plugin; Falcon finds `on_get` and the like as attributes."""

    def __init__(self, backend: Backend, plugin: str, endpoints: Mapping[str, Endpoint]) -> None:
        self._backend = backend
        self._plugin = plugin
        for method, endpoint in endpoints.items():
            setattr(self, f"on_{method.lower()}", partial(self._answer, endpoint))

    async def _answer(
        self, endpoint: Endpoint, req: ApiRequest, resp: falcon.asgi.Response, /, **path: str
    ) -> None:
        call = await self._call(endpoint, req, path)
        work = partial(self._handled, endpoint, call)
        try:
            if endpoint.method == READS:
                resp.data = await self._backend.lister.run(work)
            else:
                resp.data = await self._backend.writer.run(work)
        except PluginError as error:
            where = f"{endpoint.method} {endpoint.path} of plugin {self._plugin}"
            reporting.unexpected(error.__cause__ or error, where)
            text = f"an error of the plugin {self._plugin}; it has been reported"
            raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, text) from None
        resp.content_type = "application/json"

    async def _call(self, endpoint: Endpoint, req: ApiRequest, path: Mapping[str, str]) -> Call:
        query = Query(req.query_string, [parameter.name for parameter in endpoint.parameters])
        given = {p.name: _given(query, p) for p in endpoint.parameters}
        query.end()
        body = None
        if endpoint.body is not None:
            async with self._backend.bodies.json(req) as raw:
                body, faults = parse(raw, endpoint.body)
            if faults:
                raise InvalidRequest(faults)
        return Call(path, given, body, self._backend.clock.wall_ms())

    def _handled(self, endpoint: Endpoint, call: Call, store: Store) -> bytes:
        """The answer's JSON, made within the transaction: what can't be told is not stored."""
        try:
            return _written(endpoint, endpoint.handler(call, store.shelf(self._plugin)))
        except (RequestError, StoreError):
            raise
        except BaseException as error:  # SystemExit too: it would end the whole API process
            raise PluginError(f"plugin {self._plugin} failed") from error


def _written(endpoint: Endpoint, answer: Struct) -> bytes:
    if not isinstance(answer, endpoint.answer):
        raise TypeError(f"a handler owes a {endpoint.answer.__name__}, not a {type(answer)}")
    return encoded(answer)


def _first_segment(path: str) -> str:
    """What a plugin owns: no path of another begins with it."""
    return "/".join(path.split("/")[:3])


def _cannot(plugin: str, call: str, problem: str) -> PluginError:
    return PluginError(f"plugin {plugin}: its call {call} can't be served: {problem}")


def _problem(endpoint: Endpoint, owners: dict[str, str], plugin: str) -> str | None:
    if endpoint.method not in {READS, *CHANGES}:
        return f"its method is none of {', '.join([READS, *sorted(CHANGES)])}"
    if not _PATH.fullmatch(endpoint.path) or "{" in _first_segment(endpoint.path):
        return "its path is not /v1/name, followed by names and {parameters}"
    owner = owners.setdefault(_first_segment(endpoint.path), plugin)
    if owner != plugin:
        return f"{_first_segment(endpoint.path)} is {owner}'s"
    kinds = [endpoint.answer] if endpoint.body is None else [endpoint.answer, endpoint.body]
    if not all(isinstance(kind, type) and issubclass(kind, Struct) for kind in kinds):
        return "its body and answer have to be msgspec Structs"
    if any(parameter.place != "query" for parameter in endpoint.parameters):
        return "its parameters have to be in the query"
    return None


def _operation(endpoint: Endpoint) -> Operation:
    return Operation(
        endpoint.summary,
        endpoint.answer,
        scope=endpoint.scope,
        body=endpoint.body,
        parameters=endpoint.parameters,
        statuses=(422, *endpoint.statuses),  # parameters there are none of are refused
    )


def _given(query: Query, parameter: Parameter) -> Any:
    schema = parameter.schema
    if schema.get("type") != "integer":
        value = query.given(parameter.name)
        return schema.get("default") if value is None else value
    if query.given(parameter.name) is None:
        return schema.get("default")
    low, high = schema.get("minimum", 0), schema.get("maximum", LARGEST)
    return query.integer(parameter.name, low, high, low)

"""`/openapi.json`: the OpenAPI 3.1 document, made from the table that is served and its types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import falcon.asgi
import msgspec
from msgspec import Struct

import mailer
from mailer.api.bodies import ApiRequest
from mailer.api.operations import Operation, Route
from mailer.api.problems import MEDIA_TYPE, Problem

_REF: Final = "#/components/schemas/{name}"
_SECURITY: Final = {
    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-KEY"},
}
Schemas = Mapping[type[Struct], dict[str, Any]]
"""Each type's reference to its component: types of two plugins may have one name."""

_ANY: Final = (400, 404, 405, 500, 503)
_WITH_SCOPE: Final = (401, 403, 429)
_WITH_BODY: Final = (413, 415, 422)


class OpenApi:
    """Serves the document."""

    def __init__(self, routes: Iterable[Route], own: Operation) -> None:
        self._data = msgspec.json.encode(
            document([*routes, Route("/openapi.json", self, {"GET": own})])
        )

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        resp.content_type = "application/json"
        resp.data = self._data


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """OpenAPI 3.1 for these routes."""
    operations = [
        (operation.path or re.sub(r":\w+}", "}", route.template), method, operation)
        for route in routes
        for method, operation in route.operations.items()
    ]
    kinds: set[type[Struct]] = {
        kind
        for _, _, operation in operations
        for kind in (operation.answer, operation.body)
        if isinstance(kind, type)
    } | {Problem}
    references, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    schemas: Schemas = dict(zip(kinds, references, strict=True))
    paths: dict[str, Any] = {}
    for path, method, operation in operations:
        paths.setdefault(path, {})[method.lower()] = _operation(path, method, operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mailer", "version": mailer.__version__},
        "paths": paths,
        "components": {"schemas": dict(sorted(components.items())), "securitySchemes": _SECURITY},
    }


def _operation(path: str, method: str, operation: Operation, schemas: Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{path}").strip("_"),
        "summary": operation.summary,
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"{(\w+)}", path)
            ),
            *(
                {"name": p.name, "in": p.place, "description": p.description, "schema": p.schema}
                for p in operation.parameters
            ),
        ],
        "responses": _responses(operation, schemas),
    }
    if operation.scope is not None:
        described["description"] = f"Scope: `{operation.scope}`."
        described["security"] = [{"token": []}, {"key": []}, {}]
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body, schemas)}
    return described


def _responses(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": HTTPStatus.OK.phrase, "content": _content(operation.answer, schemas)}
    }
    statuses = {*_ANY, *operation.statuses}
    statuses |= {*_WITH_SCOPE} if operation.scope is not None else set()
    statuses |= {*_WITH_BODY} if operation.body is not None else set()
    statuses |= {422} if operation.parameters else set()
    for status in sorted(statuses):
        responses[str(status)] = (
            {"description": HTTPStatus(status).phrase}
            if status < 400
            else {
                "description": HTTPStatus(status).phrase,
                "content": {MEDIA_TYPE: {"schema": schemas[Problem]}},
            }
        )
    return responses


def _content(kind: type[Struct] | str | None, schemas: Schemas) -> dict[str, Any]:
    if kind is None:
        return {}
    if isinstance(kind, str):
        return {kind: {}}
    return {"application/json": {"schema": schemas[kind]}}

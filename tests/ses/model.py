"""Holds requests and answers to the shapes of SES itself, as botocore's service description has
them, so that a fake can't drift from the service.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote

import botocore.session
from botocore.model import OperationModel, ServiceModel, Shape

_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "list": (list,),
    "map": (dict,),
    "string": (str,),
    "blob": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "double": (int, float),
    "timestamp": (int, float, str),
}


class ShapeError(Exception):
    """A value is not what the service's description says; the text names where."""


@lru_cache
def service(name: str = "sesv2") -> ServiceModel:
    return botocore.session.Session().get_service_model(name)


@lru_cache
def operations() -> dict[tuple[str, str], OperationModel]:
    """(method, path with its variables in braces) → operation."""
    found = (service().operation_model(name) for name in service().operation_names)
    return {(op.http["method"], op.http["requestUri"]): op for op in found}


def operation_at(method: str, path: str) -> tuple[OperationModel | None, dict[str, str]]:
    """The operation called, and the members of its request that stand in the path."""
    if operation := operations().get((method, path)):
        return operation, {}
    for (of_method, template), operation in operations().items():
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)
        if of_method == method and (match := re.fullmatch(pattern, path)):
            return operation, {name: unquote(value) for name, value in match.groupdict().items()}
    return None, {}


def in_query(operation: OperationModel, query: str) -> dict[str, Any]:
    """The members of a request that stand in the query; none there may be that it doesn't know."""
    members = {
        shape.serialization["name"]: (name, shape)
        for name, shape in (operation.input_shape.members if operation.input_shape else {}).items()
        if shape.serialization.get("location") == "querystring"
    }
    found: dict[str, Any] = {}
    for key, value in parse_qsl(query, strict_parsing=bool(query)):
        name, shape = members.get(key, (key, None))
        found[name] = int(value) if shape is not None and shape.type_name == "integer" else value
    return found


def checked(shape: Any, value: Any, where: str = "") -> Any:
    """The value with its blobs decoded. Raises ShapeError."""
    kind = shape.type_name
    if type(value) not in _TYPES[kind]:
        raise ShapeError(f"{where or shape.name} is {type(value).__name__}, not a {kind}")
    if kind == "structure":
        return _structure(shape, value, where)
    _check_limits(shape, value, where)
    if kind == "list":
        return [checked(shape.member, one, f"{where}[{n}]") for n, one in enumerate(value)]
    if kind == "map":
        return {key: checked(shape.value, one, f"{where}.{key}") for key, one in value.items()}
    if kind == "blob":
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ShapeError(f"{where} is not base64") from error
    return value


def _structure(shape: Any, value: dict[str, Any], where: str) -> dict[str, Any]:
    if unknown := value.keys() - shape.members.keys():
        raise ShapeError(f"{where or shape.name} has no {sorted(unknown)}")
    if missing := set(shape.required_members) - value.keys():
        raise ShapeError(f"{where or shape.name} lacks {sorted(missing)}")
    return {
        name: checked(shape.members[name], one, f"{where}.{name}" if where else name)
        for name, one in value.items()
    }


def _check_limits(shape: Shape, value: Any, where: str) -> None:
    limits = shape.metadata
    if isinstance(value, str | list) and not (
        limits.get("min", 0) <= len(value) <= limits.get("max", len(value))
    ):
        raise ShapeError(f"{where} has a length of {len(value)}, not as in {limits}")
    if "enum" in limits and value not in limits["enum"]:
        raise ShapeError(f"{where} is {value!r}, none of {limits['enum']}")
    if "pattern" in limits and not re.fullmatch(limits["pattern"].strip("^$"), value):
        raise ShapeError(f"{where} does not match {limits['pattern']}")

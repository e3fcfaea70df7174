"""The bodies the API takes, and their parsing: strict JSON, then types, every fault named.

A body that is no JSON at all is refused as such; one that is, but has wrong types, is still read
as far as it goes, so that the checks that follow can name the other faults too. What was faulty
is None in the result.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from mailer.api.problems import MAX_FAULTS, Refused
from mailer.errors import Fault, InvalidRequest
from mailer.vocabulary import Lane

B = TypeVar("B", bound=Struct)

MAX_MAILS: Final = 10_000
DUE_TIME_DOC: Final = (
    "`2024-01-01 09:00:00` in the server's zone, or RFC 3339 with an offset or `Z`;"
    ' in the past or `""`: now'
)


class RecipientBody(Struct, forbid_unknown_fields=True):
    """One recipient, with what is filled into the message for them."""

    email: str
    name: str | None = None
    data: dict[str, Any] | None = None


class AttachmentBody(Struct, forbid_unknown_fields=True):
    """A file; with `content_id` it is shown where the HTML says `cid:…`."""

    filename: str
    content: Annotated[str, Meta(description="base64")]
    content_type: str | None = None
    content_id: str | None = None


class MessageBody(Struct, forbid_unknown_fields=True):
    """Content and who is to get it: `emails` first, then `recipients`."""

    subject: str
    content: Annotated[str | None, Meta(description="HTML")] = None
    text: str | None = None
    topic_id: str | None = None
    emails: list[str] | None = None
    recipients: list[RecipientBody] | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    reply_to: str | None = None
    headers: dict[str, str] | None = None
    tags: dict[str, str] | None = None
    attachments: list[AttachmentBody] | None = None
    lane: Lane | None = None
    transport: Annotated[str | None, Meta(description="the way out, whatever the settings say")] = (
        None
    )
    track_opens: bool | None = None
    track_clicks: bool | None = None
    expires_at: Annotated[str | None, Meta(description="not sent after; " + DUE_TIME_DOC)] = None


class MessagesBody(Struct, forbid_unknown_fields=True):
    """A batch: stored whole, or not at all."""

    messages: list[MessageBody]
    scheduled_at: Annotated[str | None, Meta(description=DUE_TIME_DOC)] = None
    on_error: Literal["refuse", "skip"] = "refuse"
    transport: Annotated[str | None, Meta(description="of messages that name none")] = None


class RescheduleBody(Struct, forbid_unknown_fields=True):
    """A mail's new due time."""

    scheduled_at: Annotated[str, Meta(description=DUE_TIME_DOC)]


class SuppressionBody(Struct, forbid_unknown_fields=True):
    """An address not to be written to; without `scope`, everywhere."""

    email: str
    scope: str = ""
    detail: str = ""


def parse(raw: bytes, kind: type[B]) -> tuple[B, list[Fault]]:
    """The body, and what is wrong with its types. Raises Refused when it is no JSON.

    Raises InvalidRequest when it is no JSON object.
    """
    faults: list[Fault] = []
    try:
        try:
            body = msgspec.json.decode(raw, type=kind)
        except msgspec.ValidationError:
            body = _read(_object(msgspec.json.decode(raw)), kind, "", faults)
        _refuse_duplicate_keys(raw)
    except msgspec.ValidationError as error:  # a number out of range, whatever it was meant for
        raise _no_json(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _no_json(str(error)) from None
    except RecursionError:
        raise _no_json("it is nested too deeply") from None
    return body, faults


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest([Fault("", "wrong_type", "the body is a JSON object")])
    return value


def _no_json(reason: str) -> Refused:
    # "Input data was truncated" is also what msgspec says of a lone surrogate.
    return Refused(
        HTTPStatus.BAD_REQUEST, f"the body is no JSON (RFC 8259, UTF-8, well-formed text): {reason}"
    )


def _refuse_duplicate_keys(raw: bytes) -> None:
    """Of two values under one key readers choose differently, so neither is taken."""
    _PAIRWISE.decode(raw.decode())


def _pairs(pairs: list[tuple[str, object]]) -> None:
    if len(pairs) > 1 and len({key for key, _ in pairs}) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for n, key in enumerate(keys) if key in keys[:n])
        raise _no_json(f"the key {twice[:80]!r} stands twice in one object")


_PAIRWISE: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=float, parse_float=float)


def _read(value: Any, kind: Any, path: str, faults: list[Fault]) -> Any:
    """`value` as a `kind`, or None and a fault. Goes into objects and lists."""
    kinds = _alternatives(kind)
    if value is None and type(None) in kinds:
        return None
    chosen = next((k for k in kinds if k is not type(None)), Any)
    if isinstance(chosen, type) and issubclass(chosen, Struct) and isinstance(value, dict):
        return _read_struct(value, chosen, path, faults)
    if typing.get_origin(chosen) is list and isinstance(value, list):
        (inner,) = typing.get_args(chosen)
        return [_read(item, inner, f"{path}[{n}]", faults) for n, item in enumerate(value)]
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        _add(faults, path + where.rstrip("`"), "wrong_type", reason[0].lower() + reason[1:])
        return None


def _read_struct(value: dict[str, Any], kind: type[B], path: str, faults: list[Fault]) -> B:
    prefix = f"{path}." if path else ""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name in value.keys() - fields.keys():
        _add(faults, f"{prefix}{name[:80]}", "unknown_field", "there is no such field")
    found: dict[str, Any] = {}
    for name, field in fields.items():
        if name in value:
            found[field.name] = _read(value[name], field.type, f"{prefix}{name}", faults)
        elif field.required:
            found[field.name] = None
            _add(faults, f"{prefix}{name}", "missing", "is required")
    return kind(**found)


def _alternatives(kind: Any) -> Iterable[Any]:
    if typing.get_origin(kind) is Annotated:
        return _alternatives(typing.get_args(kind)[0])
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return [k for part in typing.get_args(kind) for k in _alternatives(part)]
    return [kind]


def _add(faults: list[Fault], path: str, code: str, message: str) -> None:
    if len(faults) <= MAX_FAULTS:
        faults.append(Fault(path, code, message))

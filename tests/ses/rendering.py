"""What SES does with a template and with mail it took: strict rendering, the MIME message."""

from __future__ import annotations

import html
import re
from base64 import encodebytes
from collections.abc import Mapping
from email.message import Message

_PLACEHOLDER = re.compile(r"\{\{\{\s*(\w+)\s*\}\}\}|\{\{\s*(\w+)\s*\}\}")


class TemplateError(Exception):
    """The template has more than simple substitutions: the call is refused."""


class RenderingFailure(Exception):
    """A value is missing: the mail was accepted and is not sent."""


def render(template: str, values: Mapping[str, object], *, escapes: bool) -> str:
    """Fill a template in. `escapes`: as Handlebars does it, `{{x}}` is escaped, `{{{x}}}` not."""
    if "{{" in _PLACEHOLDER.sub("", template):
        raise TemplateError("Template contains unsupported operations.")

    def fill(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in values:
            raise RenderingFailure(f"Attribute '{name}' is not present in the rendering data.")
        text = str(values[name])
        return html.escape(text) if escapes and match[2] else text

    return _PLACEHOLDER.sub(fill, template)


def message(
    fields: Mapping[str, str],
    headers: list[dict[str, str]],
    message_id: str,
    parts: Mapping[str, str],
) -> bytes:
    """The mail as its recipient gets it, with a Message-ID that SES makes up."""
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    lines += [f"{header['Name']}: {header['Value']}" for header in headers]
    lines += [f"Message-ID: <{message_id}@email.amazonses.com>", "MIME-Version: 1.0"]
    kinds = {"Text": "plain", "Html": "html"}
    leaves: list[Message | str] = [
        _part(kinds[name], parts[name]) for name in kinds if name in parts
    ]
    whole = leaves[0]
    assert isinstance(whole, Message)
    if len(leaves) > 1:
        whole = Message()
        whole["Content-Type"] = 'multipart/alternative; boundary="=_of_ses"'
        whole.set_payload(leaves)
    return "\r\n".join(lines).encode("ascii") + b"\r\n" + whole.as_bytes()


def encoded(text: str) -> str:
    """A header's text as one RFC 2047 word, unless it is plain."""
    if re.fullmatch(r"[ -~]*", text):
        return text
    return f"=?utf-8?b?{encodebytes(text.encode()).decode().replace(chr(10), '')}?="


def with_message_id(raw: bytes, message_id: str) -> bytes:
    """A raw message with SES's Message-ID in place of its own."""
    new = f"Message-ID: <{message_id}@email.amazonses.com>".encode()
    return re.sub(rb"(?im)^Message-ID:[^\r\n]*", new, raw, count=1)


def _part(kind: str, text: str) -> Message:
    part = Message()
    part["Content-Type"] = f'text/{kind}; charset="UTF-8"'
    part["Content-Transfer-Encoding"] = "base64"
    part.set_payload(encodebytes(text.encode()).decode("ascii"))
    return part

"""Many mails in one `SendBulkEmail`, each as it was composed, byte for byte.

SES renders a template for every recipient. The template we give it has placeholders alone, as
`{{{Html0}}}{{{Html1}}}{{{Html2}}}`: all text, the caller's braces included, travels as values,
which no engine reads, and within three braces none escapes them. What the bodies of a call share
goes once, in the template's default data; what is a recipient's own (the pixel, tracked links,
filled-in data) in the replacement data, which SES lays over the default key by key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import eq
from typing import Any, Final

import msgspec

from mailer.hookspecs import Envelope
from mailer_ses.requests import Call, headers, reply_to, sender, single, tags, to

MAX_ENTRIES: Final = 50
MAX_DATA_CHARS: Final = 262_144
MAX_REQUEST_BYTES: Final = 1_000_000
"""SES takes 1 MB of JSON when the template is in it."""

_ENVELOPE_BYTES: Final = 1_000
"""Room for what stands around the entries of a request."""
_CUTS: Final = (("Subject", "\n"), ("Html", '"'), ("Text", "\n"))
"""The template's parts and where they are cut to be compared: links and the pixel stand in quotes,
so most pieces of two bodies are the same or one's own."""
_PARTNERS: Final = 3

Numbered = tuple[int, Envelope]
"""A mail, and its place among those to be sent."""


def calls(envelopes: Sequence[Numbered], configuration_set: str | None) -> Iterator[Call]:
    """The calls that carry these mails: all have passed `requests.check` and are plain."""
    together: dict[object, list[Numbered]] = {}
    for place, envelope in envelopes:
        kinds = envelope.html is None, envelope.text is None
        alike = (envelope.from_email, envelope.reply_to, kinds)
        together.setdefault(alike, []).append((place, envelope))
    for group in together.values():
        for part in _parts(group):
            if part.entries:
                yield part.call(configuration_set)
            for place, envelope in part.alone:
                yield single(envelope, place, configuration_set)


@dataclass(slots=True)
class _Part:
    """What one call carries of a group, and what has to go alone."""

    common: dict[str, Any] = field(default_factory=dict)
    entries: list[msgspec.Raw] = field(default_factory=list)
    """Each as JSON."""
    carried: list[Numbered] = field(default_factory=list)
    alone: list[Numbered] = field(default_factory=list)

    def call(self, configuration_set: str | None) -> Call:
        request = {**self.common, "BulkEmailEntries": self.entries}
        if configuration_set:
            request["ConfigurationSetName"] = configuration_set
        return Call("send_bulk_email", request, tuple(place for place, _ in self.carried))


def _parts(group: Sequence[Numbered]) -> Iterator[_Part]:
    """Divide mails of one From and of the same parts into calls."""
    waiting = list(group)
    while waiting:
        first, *others = waiting
        templates = (_Template.of(first[1], other) for _, other in others[:_PARTNERS])
        template = next((found for found in templates if found), None)
        fitting: list[tuple[Numbered, str]] = []
        waiting = []
        for numbered in [first, *others] if template else others:
            data = template.own(numbered[1]) if template else None
            if data is None:
                waiting.append(numbered)
            else:
                fitting.append((numbered, data))
        if template and template.fits:
            yield from _within_limits(template, fitting)
        else:
            yield _Part(alone=[numbered for numbered, _ in fitting] or [first])


def _within_limits(template: _Template, fitting: Sequence[tuple[Numbered, str]]) -> Iterator[_Part]:
    common = template.common(fitting[0][0][1])
    room = MAX_REQUEST_BYTES - _ENVELOPE_BYTES - len(msgspec.json.encode(common))
    part, left = _Part(common), room
    for numbered, data in fitting:
        if len(data) > MAX_DATA_CHARS:
            part.alone.append(numbered)
            continue
        entry = msgspec.json.encode(_entry(numbered[1], data))
        size = len(entry) + 1
        if size > left or len(part.entries) == MAX_ENTRIES:
            yield _worth_it(part)
            part, left = _Part(common), room
        part.entries.append(msgspec.Raw(entry))
        part.carried.append(numbered)
        left -= size
    yield _worth_it(part)


def _worth_it(part: _Part) -> _Part:
    """One recipient alone needs no template."""
    if len(part.entries) == 1:
        part.alone += part.carried
        part.entries.clear()
    return part


class _Template:
    """What several mails share: for each part its texts in order, with one's own in between."""

    def __init__(self, shared: dict[str, list[str]]) -> None:
        self._shared = shared
        self._data = _json(
            {
                f"{part}{2 * number}": text
                for part, texts in shared.items()
                for number, text in enumerate(texts)
            }
        )
        self.fits = len(self._data) <= MAX_DATA_CHARS

    @classmethod
    def of(cls, one: Envelope, other: Envelope) -> _Template | None:
        """Learn what is shared from two mails; None when they are not made alike."""
        shared: dict[str, list[str]] = {}
        for (part, cut), text, its in zip(_CUTS, _texts(one), _texts(other), strict=True):
            if text is None or its is None:
                continue
            pieces, others = text.split(cut), its.split(cut)
            if len(pieces) != len(others):
                return None
            shared[part] = _shared(pieces, list(map(eq, pieces, others)), cut)
        return cls(shared)

    def common(self, envelope: Envelope) -> dict[str, Any]:
        """The request but for its entries."""
        content = {
            part: "".join(f"{{{{{{{part}{number}}}}}}}" for number in range(2 * len(texts) - 1))
            for part, texts in self._shared.items()
        }
        return {
            "FromEmailAddress": sender(envelope),
            "ReplyToAddresses": reply_to(envelope),
            "DefaultContent": {
                "Template": {"TemplateContent": content, "TemplateData": self._data}
            },
        }

    def own(self, envelope: Envelope) -> str | None:
        """The mail's own texts, as JSON; None if it does not have what the template's mails share.

        Wherever the shared texts are found in their order, the template gives the mail back.
        """
        values: dict[str, str] = {}
        for (part, _), text in zip(_CUTS, _texts(envelope), strict=True):
            if text is None:
                continue
            start, *between = self._shared[part]
            if not text.startswith(start) or (not between and text != start):
                return None
            begin = len(start)
            for number, shared in enumerate(between, 1):
                last = number == len(between)
                end = len(text) - len(shared) if last else text.find(shared, begin)
                if end < begin or (last and not text.endswith(shared)):
                    return None
                values[f"{part}{2 * number - 1}"] = text[begin:end]
                begin = end + len(shared)
        return _json(values)


def _shared(pieces: Sequence[str], same: Sequence[bool], cut: str) -> list[str]:
    """The texts that are the same, first and last ones perhaps empty: one's own stands between."""
    texts = []
    begin = 0
    for is_same, run in groupby(same):
        end = begin + len(list(run))
        if is_same:
            before, after = cut * (begin > 0), cut * (end < len(pieces))
            texts.append(f"{before}{cut.join(pieces[begin:end])}{after}")
        elif begin == 0:
            texts.append("")
        begin = end
    return texts if same[-1] else [*texts, ""]


def _texts(envelope: Envelope) -> tuple[str, str | None, str | None]:
    return envelope.subject, envelope.html, envelope.text


def _entry(envelope: Envelope, data: str) -> dict[str, Any]:
    return {
        "Destination": {"ToAddresses": [to(envelope)]},
        "ReplacementTags": tags(envelope),
        "ReplacementHeaders": headers(envelope),
        "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": data}},
    }


def _json(data: dict[str, str]) -> str:
    return msgspec.json.encode(data).decode()

"""Whatever the mails are: the calls carry each once, and the template gives each back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from mailer_ses import bulk

from mailer.hookspecs import Envelope
from mailer.testing import envelope
from tests.ses.model import checked, service
from tests.ses.rendering import render

PIECES = st.sampled_from(['"', "\n", "a", "b", "{{", "}}", "{{{x}}}", "\\", "é", "😀", "\u2028"])
BODIES = st.one_of(st.none(), st.lists(PIECES, min_size=1, max_size=12).map("".join))
MAILS = st.lists(
    st.tuples(st.sampled_from("ab"), BODIES, BODIES, st.sampled_from(["s", "t\\{{"])).filter(
        lambda fields: fields[1] is not None or fields[2] is not None
    ),
    max_size=8,
)


def mail(number: int, fields: tuple[str, str | None, str | None, str]) -> Envelope:
    sender, html, text, subject = fields
    made = envelope(number, from_email=f"{sender}@example.org", subject=subject)
    return replace(made, html=html, text=text)


def rendered(call: Any) -> list[tuple[str, dict[str, str]]]:
    """Sender and parts of each entry, as SES would make them."""
    operation = service().operation_model("SendBulkEmail")
    request = checked(operation.input_shape, json.loads(msgspec.json.encode(call.request)))
    template = request["DefaultContent"]["Template"]
    made = []
    for entry in request["BulkEmailEntries"]:
        own = entry["ReplacementEmailContent"]["ReplacementTemplate"]["ReplacementTemplateData"]
        values = {**json.loads(template["TemplateData"]), **json.loads(own)}
        parts = {
            name: render(text, values, escapes=True)
            for name, text in template["TemplateContent"].items()
        }
        made.append((request["FromEmailAddress"], parts))
    return made


@given(MAILS)
@settings(max_examples=300, deadline=None)
def test_templates_give_every_mail_back(fields: list[tuple[str, Any, Any, str]]) -> None:
    mails = [mail(number, one) for number, one in enumerate(fields)]

    calls = list(bulk.calls(list(enumerate(mails)), None))

    assert sorted(place for call in calls for place in call.places) == list(range(len(mails)))
    for call in calls:
        if call.operation == "send_bulk_email":
            assert len(call.places) > 1
            for place, (sender, parts) in zip(call.places, rendered(call), strict=True):
                its = mails[place]
                expected = {"Subject": its.subject, "Html": its.html, "Text": its.text}
                assert parts == {name: text for name, text in expected.items() if text is not None}
                assert sender == its.from_email


def test_at_most_fifty_go_in_one_call() -> None:
    mails = [envelope(number) for number in range(120)]

    calls = list(bulk.calls(list(enumerate(mails)), None))

    assert [len(call.places) for call in calls] == [50, 50, 20]

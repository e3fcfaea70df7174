"""What a recipient gets is what was composed, byte for byte: in bulk and alone, whatever SES's
templates escape.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from mailer_ses import bulk
from mailer_ses.account import Account, Client
from mailer_ses.transport import SesTransport

from mailer.hookspecs import Envelope
from mailer.mail import Attachment
from mailer.testing import assert_all_accepted, envelope, parse
from tests.ses.cost import LINKS, newsletter
from tests.ses.harness import FakeSes, raw

AWKWARD = {
    "braces": "{{ name }} }} {{{raw}}} {{#each x}}{{/each}} {{> partial}} {{!-- c --}} \\{{x}}",
    "backslashes": r"C:\new \" \\ \u0041 \/ &amp; &lt;",
    "quotes": '"double" \'single\' `back` = """',
    "separators": "\u2028 \u2029 \u0085 \x0b \ufeff end",
    "emoji": "\U0001f469\u200d\U0001f467 \U0001d50a 😀 Ж 漢 e\u0301",
    "lines": "\r\n.\r\n..\n\r \ttrailing  \n\n",
    "controls": "\x01\x1f\x7f\t",
    "markup": "<b a=\"1\" c='2'>&amp;&nbsp;</b><!-- {{x}} -->",
}
LARGE = "".join(f'<p class="p{n}">{n} & "{{{{x}}}}" äöü</p>\n' for n in range(11_000))


def mails(html: str, text: str | None = None, *, count: int = 3) -> list[Envelope]:
    """Mails of one message, each with its own link."""
    return [
        replace(
            envelope(n, subject=f"To {n}: {AWKWARD['emoji']} {{{{x}}}}"),
            html=f'{html}<a href="https://example.org/{n}">{html}</a>',
            text=text,
        )
        for n in range(count)
    ]


def sent(transport: SesTransport, ses: FakeSes, given: list[Envelope]) -> list[dict[str, Any]]:
    """What arrived, in the order of what was given."""
    session = transport.open()
    assert_all_accepted(session.send(given), len(given))
    arrived = {mail["tags"]["mailer_request_id"]: mail for mail in ses.mails()}
    assert len(arrived) == len(given)
    return [arrived[mail.request_id] for mail in given]


def assert_same(given: list[Envelope], arrived: list[dict[str, Any]]) -> None:
    for mail, got in zip(given, arrived, strict=True):
        assert got["failure"] == ""
        message = parse(raw(got))
        for kind, body in (("html", mail.html), ("plain", mail.text)):
            part = message.get_body((kind,))
            assert (part and part.get_payload(decode=True)) == (body and body.encode())
        assert message["Subject"] == mail.subject


@pytest.mark.parametrize("escapes", [True, False], ids=["escaping", "plain"])
@pytest.mark.parametrize("in_bulk", [True, False], ids=["bulk", "single"])
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_bodies(
    ses: FakeSes, account: Account, client: Client, name: str, *, in_bulk: bool, escapes: bool
) -> None:
    ses.told(escapes=escapes)
    transport = SesTransport(replace(account, bulk=in_bulk), client)
    given = mails(AWKWARD[name], AWKWARD[name] + "{{y}}")

    assert_same(given, sent(transport, ses, given))

    assert set(ses.operations()) == {"SendBulkEmail" if in_bulk else "SendEmail"}


@pytest.mark.parametrize("escapes", [True, False], ids=["escaping", "plain"])
def test_a_body_too_large_for_a_template_goes_alone(
    ses: FakeSes, transport: SesTransport, *, escapes: bool
) -> None:
    ses.told(escapes=escapes)
    assert len(LARGE) > 400_000

    given = mails(LARGE, count=2)

    assert_same(given, sent(transport, ses, given))
    assert ses.operations() == ["SendEmail"] * 2


def test_a_newsletter_with_pixel_and_tracked_links_goes_in_one_call(
    ses: FakeSes, transport: SesTransport
) -> None:
    from mailer.compose import compose
    from mailer.mail import Recipient

    given = [
        compose(
            newsletter(clicks=True),
            Recipient(f"r{n}@example.net"),
            request_id=f"abcdef-{n}",
            created_at_ms=1,
            default_from="shop@example.org",
            links=LINKS,
        )
        for n in range(50)
    ]

    assert_same(given, sent(transport, ses, given))

    (call,) = ses.calls()
    assert call["operation"] == "SendBulkEmail"
    # Shared once: far less than fifty times the body.
    assert call["bytes"] < 12 * len((given[0].html or "").encode())


def test_filled_in_mails_of_different_length_go_in_bulk(
    ses: FakeSes, transport: SesTransport
) -> None:
    names = ["Anna", "Anna", "Bob", "", "Übermäßig " * 30, "Anna"]
    given = [
        replace(envelope(n), html=f"<p>Dear {name},</p>" + AWKWARD["markup"] * 50)
        for n, name in enumerate(names)
    ]

    assert_same(given, sent(transport, ses, given))

    assert set(ses.operations()) == {"SendBulkEmail"}


def test_mails_of_several_messages_and_senders_find_their_own_calls(
    ses: FakeSes, transport: SesTransport
) -> None:
    given = []
    for n in range(12):
        mail = envelope(n, html=f"<p>{n}</p>" + '"a"' * (n % 3))
        given.append(replace(mail, from_email=f"s{n % 2}@example.org", text=None))

    arrived = sent(transport, ses, given)

    assert_same(given, arrived)
    assert [mail["sender"] for mail in arrived] == [mail.from_email for mail in given]


def test_calls_keep_to_the_limits_of_bytes(ses: FakeSes, transport: SesTransport) -> None:
    own = "Ж" * 20_000  # six bytes each on the wire
    given = [replace(envelope(n), html=f"<p>{n}{own}</p>", text=None) for n in range(25)]

    assert_same(given, sent(transport, ses, given))

    sizes = [call["bytes"] for call in ses.calls()]
    assert len(sizes) > 1
    assert max(sizes) <= bulk.MAX_REQUEST_BYTES


@pytest.mark.parametrize(
    "changes",
    [
        {"attachments": (Attachment("a.txt", "text/plain", b"x"),)},
        {"headers": tuple((f"X-{n}", "v") for n in range(15))},
        {"headers": (("X-Long", "v " * 498),)},
        {"headers": (("X-Empty", ""),)},
        {"html": None, "text": ""},
        {"subject": ""},
    ],
    ids=["attachment", "many headers", "long header", "empty header", "empty", "no subject"],
)
def test_what_ses_has_no_fields_for_goes_as_mime(
    ses: FakeSes, transport: SesTransport, changes: dict[str, Any]
) -> None:
    given = [envelope(1, **changes), envelope(2)]

    arrived = sent(transport, ses, given)

    assert [mail["operation"] for mail in arrived] == ["SendEmail Raw", "SendEmail Simple"]
    message = parse(raw(arrived[0]))
    assert message["Message-ID"] != given[0].message_id
    assert message["X-Mailer-Message-ID"] == given[0].message_id
    for name, value in given[0].headers:
        assert message[name] == value


def test_tags_headers_and_configuration_set_travel(ses: FakeSes, account: Account) -> None:
    account = replace(account, configuration_set="events")
    given = [
        envelope(
            n,
            topic_id="newsletter_2024" if n else "no/such:tag",
            tags={"campaign": "spring", "mailer_request_id": "forged"},
            headers=(("List-Unsubscribe", f"<https://example.org/{n}>"), ("X-Same", "1")),
        )
        for n in range(3)
    ]

    for transport in (SesTransport(account), SesTransport(replace(account, bulk=False))):
        ses.forget()
        for mail, got in zip(given, sent(transport, ses, given), strict=True):
            topic = {"mailer_topic": mail.topic_id} if mail is not given[0] else {}
            own = {"mailer_request_id": mail.request_id, "campaign": "spring"}
            assert got["tags"] == own | topic
            assert got["configuration_set"] == "events"
            named = {header["Name"]: header["Value"] for header in got["headers"]}
            assert named == dict(mail.headers) | {"X-Mailer-Message-ID": mail.message_id}

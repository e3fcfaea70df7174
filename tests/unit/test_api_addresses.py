from __future__ import annotations

from dataclasses import replace

import pytest

from mailer import mime
from mailer.api import addresses
from tests.messages import ENVELOPE


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("a@example.com", "a@example.com"),
        ("First.Last+tag@EXAMPLE.Com", "First.Last+tag@example.com"),
        ("o'neil!#$%&*/=?^_`{|}~-@example.com", "o'neil!#$%&*/=?^_`{|}~-@example.com"),
        ("a@sub.example.co.uk", "a@sub.example.co.uk"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("a@例え.テスト", "a@xn--r8jz45g.xn--zckzah"),
        ("a@example.XN--P1AI", "a@example.xn--p1ai"),
        ('"a@b"@example.com', '"a@b"@example.com'),
        ("x" * 64 + "@example.com", "x" * 64 + "@example.com"),
        ("a@" + "x" * 63 + ".com", "a@" + "x" * 63 + ".com"),
    ],
)
def test_addresses_are_stored_in_one_form(text: str, stored: str) -> None:
    assert addresses.normalized(text) == stored
    assert text == stored or not addresses.all_as_stored(["a@example.com", text])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "address_invalid"),
        ("a", "address_invalid"),
        ("@example.com", "address_invalid"),
        ("a@", "address_invalid"),
        ("a@b", "address_invalid"),
        ("a@localhost", "address_invalid"),
        ("a@[127.0.0.1]", "address_invalid"),
        ("a@127.0.0.1", "address_invalid"),
        ("a@example..com", "address_invalid"),
        ("a@.example.com", "address_invalid"),
        ("a@-example.com", "address_invalid"),
        ("a@example-.com", "address_invalid"),
        ("a@exa_mple.com", "address_invalid"),
        ("a@example.com.", "address_invalid"),
        ("a..b@example.com", "address_invalid"),
        (".a@example.com", "address_invalid"),
        ("a.@example.com", "address_invalid"),
        ("a b@example.com", "address_invalid"),
        ('"a b"@example.com', "address_invalid"),
        ("a@example.com ", "address_invalid"),
        ("a@example.com\n", "address_invalid"),
        ("a@example.com\r\nBcc: b@example.com", "address_invalid"),
        ("a@example.com\x00", "address_invalid"),
        ("a@b@example.com", "address_invalid"),
        ("Name <a@example.com>", "address_invalid"),
        ("a@example.com,b@example.com", "address_invalid"),
        ("a@xn--a.example", "address_invalid"),
        ("a@\u2028.example", "address_invalid"),
        ("ü@example.com", "local_part_not_ascii"),
        ("x" * 65 + "@example.com", "address_too_long"),
        ("a@" + "x" * 64 + ".com", "address_invalid"),
        ("a@" + ".".join(["x" * 50] * 6), "address_too_long"),
        ("x" * 60 + "@" + ".".join(["x" * 48] * 4) + ".com", "address_too_long"),
        ("a" * 1_000_000, "address_invalid"),
        ("a@" + "a." * 500_000, "address_too_long"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, code: str) -> None:
    with pytest.raises(addresses.AddressError) as refused:
        addresses.normalized(text)

    assert refused.value.code == code
    assert str(refused.value)
    assert not addresses.all_as_stored(["a@example.com", text])


def test_the_quick_look_at_many_addresses_takes_usual_ones_only() -> None:
    local = "x" * 64
    assert addresses.all_as_stored(
        ["a@example.com", "o'neil+tag@sub.example.co.uk", f"{local}@b.de"]
    )
    for text in ("A@example.com", "a@Example.com", f"x{local}@b.de", "a@xn--p1ai.de"):
        assert not addresses.all_as_stored(["a@example.com", text])


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("shop@example.com", "shop@example.com"),
        ("Shop <shop@example.com>", '"Shop" <shop@example.com>'),
        ('"Shop, the" <shop@example.com>', '"Shop, the" <shop@example.com>'),
        ('Say "hi" <shop@example.com>', r'"Say \"hi\"" <shop@example.com>'),
        ("Bücher <shop@bücher.example>", '"Bücher" <shop@xn--bcher-kva.example>'),
    ],
)
def test_mailboxes_keep_their_name(text: str, stored: str) -> None:
    assert addresses.mailbox(text) == stored
    assert mime.split_mailbox(stored)[0] == mime.split_mailbox(text)[0]


@pytest.mark.parametrize("char", "\r\n\0\x0b\x0c\x1c\x85\u2028\u2029")
def test_no_name_can_break_a_header(char: str) -> None:
    with pytest.raises(addresses.AddressError, match="control characters"):
        addresses.mailbox(f"a{char}Bcc: b@example.com <shop@example.com>")


@pytest.mark.parametrize("local", ["a", '"a@b"', "o'neil!#$%&*/=?^_`{|}~-"])
def test_every_stored_address_can_be_written(local: str) -> None:
    address = addresses.normalized(f"{local}@example.com")

    assert mime.build(replace(ENVELOPE, recipient=address))

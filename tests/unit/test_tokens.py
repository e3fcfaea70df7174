"""A token verifies only as it was made: one string, one purpose, one key."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer import tokens

KEY = b"k" * 32
REQUEST_ID = "01jd-7f3a"
URL = "https://example.org/a?b=c&d=ü#e"


def test_a_token_gives_back_its_payload() -> None:
    token = tokens.sign(KEY, tokens.OPEN, REQUEST_ID)
    assert tokens.verify(KEY, tokens.OPEN, token) == REQUEST_ID


def test_a_click_token_gives_back_request_id_and_url() -> None:
    assert tokens.verify_click(KEY, tokens.sign_click(KEY, REQUEST_ID, URL)) == (REQUEST_ID, URL)


def test_an_unsubscribe_token_gives_back_all_it_was_made_of() -> None:
    token = tokens.sign_unsubscribe(KEY, REQUEST_ID, "ann@example.com", "weekly news")
    assert tokens.verify_unsubscribe(KEY, token) == (REQUEST_ID, "ann@example.com", "weekly news")
    assert tokens.verify_unsubscribe(KEY, tokens.sign(KEY, tokens.OPEN, REQUEST_ID)) is None


def test_a_token_needs_no_escaping_in_a_url() -> None:
    token = tokens.sign_click(KEY, REQUEST_ID, URL)
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")


@pytest.mark.parametrize("other", [tokens.CLICK, tokens.UNSUBSCRIBE])
def test_a_token_of_one_purpose_is_worth_nothing_for_another(other: str) -> None:
    assert tokens.verify(KEY, other, tokens.sign(KEY, tokens.OPEN, REQUEST_ID)) is None


def test_a_token_of_another_key_is_refused() -> None:
    token = tokens.sign(KEY, tokens.OPEN, REQUEST_ID)
    assert tokens.verify(b"x" * 32, tokens.OPEN, token) is None


def test_purpose_and_payload_cannot_trade_characters() -> None:
    assert tokens.sign(KEY, "open", "1x") != tokens.sign(KEY, "open1", "x")


@pytest.mark.parametrize("payload", [REQUEST_ID, "a", "ab", "abc", ""])
def test_every_change_of_one_character_is_refused(payload: str) -> None:
    token = tokens.sign(KEY, tokens.OPEN, payload)
    alphabet = string.printable + "\0é\u2028\ud800"
    for at in range(len(token)):
        for char in alphabet:
            changed = token[:at] + char + token[at + 1 :]
            if changed != token:
                assert tokens.verify(KEY, tokens.OPEN, changed) is None


def test_a_hundred_thousand_random_forgeries_are_refused() -> None:
    token = tokens.sign(KEY, tokens.OPEN, REQUEST_ID)
    chance = random.Random(7)
    alphabet = string.ascii_letters + string.digits + "-_"
    for _ in range(100_000):
        head = "".join(chance.choices(alphabet, k=22))
        forged = head + token[22:]
        assert forged == token or tokens.verify(KEY, tokens.OPEN, forged) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t + "=",
        lambda t: t + "==",
        lambda t: t + "\n",
        lambda t: " " + t,
        lambda t: t[:5] + "!" + t[5:],
        lambda t: t[:-1],
        lambda t: t + "A",
        lambda t: t.replace(t[3], "+"),
        lambda t: t * 2,
        lambda t: t[:22],
        lambda t: "",
        lambda t: "A",
        lambda t: "\ud800",
        lambda t: "é" * 40,
        lambda t: "A" * (tokens.MAX_TOKEN_CHARS + 1),
        lambda t: "A" * 10_000_000,
    ],
)
def test_other_spellings_and_sizes_are_refused(spoil: Callable[[str], str]) -> None:
    token = tokens.sign(KEY, tokens.OPEN, REQUEST_ID)
    assert tokens.verify(KEY, tokens.OPEN, spoil(token)) is None


@given(st.text(max_size=300))
def test_no_text_makes_verify_raise(text: str) -> None:
    assert tokens.verify(KEY, tokens.OPEN, text) is None
    assert tokens.verify_click(KEY, text) is None


def test_what_could_never_verify_is_not_signed() -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        tokens.sign_click(KEY, REQUEST_ID, "https://example.org/" + "a" * 4000)

"""The template language: small enough that nothing in it can run away or reach beyond the data."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer import templates
from mailer.mail import Content, Recipient


@pytest.mark.parametrize(
    ("source", "data", "expected"),
    [
        ("{{ a.b }} {{ a['b'] }} {{ l[1] }}", {"a": {"b": 1}, "l": [1, 2]}, "1 1 2"),
        ("{{ order.items }}", {"order": {"items": "its own"}}, "its own"),
        ("{{ a|upper }} {{ b|default('-') }}", {"a": "x"}, "X -"),
        ("{% if a %}y{% else %}n{% endif %}", {"a": False}, "n"),
        ("{{ 'y' if a > 1 and a is defined else 'n' }}", {"a": 2}, "y"),
        ("{% for i in l %}{{ loop.index }}{{ i.n }} {% endfor %}", {"l": [{"n": "x"}]}, "1x "),
        ("{{ a }}", {"a": None}, ""),
        ("{{ a }}", {"a": "{{ b }}"}, "{{ b }}"),
        ("{% raw %}{{ a }}{% endraw %}{# gone #}\n", {}, "{{ a }}\n"),
        ("{{ a }}", {"a": "\u2028é😀"}, "\u2028é😀"),
        ("{{ data }} {{ a }}", {"data": 1, "a": True}, "1 True"),
    ],
)
def test_the_language(source: str, data: dict[str, Any], expected: str) -> None:
    assert templates.fill(source, data) == expected


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("{{ missing }}", "template_undefined"),
        ("{{ a.missing }}", "template_undefined"),
        ("{{ a.__class__ }}", "template_undefined"),
        ("{{ a['__class__'].__mro__ }}", "template_undefined"),
        ("{% for x in missing %}{% endfor %}", "template_undefined"),
        ("{{ range }}", "template_undefined"),
        ("{{ number|length }}", "template_failed"),
        ("{% for x in number %}{% endfor %}", "template_failed"),
        ("{{ number < a }}", "template_failed"),
        ("{{ long|truncate(1) }}", "template_failed"),
        ("{{ unclosed", "template_invalid"),
        ("{% if a %}", "template_invalid"),
        ("{% for i in range(10**9) %}{% endfor %}", "template_invalid"),
        ("{{ 'a' * 10**9 }}", "template_invalid"),
        ("{{ a.keys() }}", "template_invalid"),
        ("{{ self }}", "template_invalid"),
        ("{{ 'a'|center(1000000000) }}", "template_invalid"),
        ("{{ 'a'|replace('', 'aaaaaaaa') }}", "template_invalid"),
        ("{% set a = 1 %}", "template_invalid"),
        ("{% include '/etc/passwd' %}", "template_invalid"),
        ("{% macro m() %}{% endmacro %}", "template_invalid"),
        ("{{ a ~ a }}", "template_invalid"),
        ("{{ [a, a] }}", "template_invalid"),
        ("{% autoescape false %}{{ a }}{% endautoescape %}", "template_invalid"),
        ("{% for x in l recursive %}{{ x }}{% endfor %}", "template_invalid"),
        ("{{ " + "(" * 500 + "a" + ")" * 500 + " }}", "template_invalid"),
        ("{{ " + "not " * 900 + "a }}", "template_invalid"),
        ("{% if a %}" * 300 + "{% endif %}" * 300, "template_invalid"),
        ("{{ a }}" * 3000, "template_invalid"),
        ("{{ " + "9" * 5000 + " }}", "template_invalid"),
        ("{% for x in l %}{% for y in l %}{% endfor %}{% endfor %}", "template_too_long"),
        ("{% for x in l %}{{ long }}{% endfor %}", "template_too_long"),
    ],
)
def test_what_cannot_be_filled_in_is_told_at_acceptance_within_a_second(
    source: str, code: str
) -> None:
    data = {"a": {"b": 1}, "number": 5, "l": list(range(100)), "long": "x" * 1_000_000}
    content = Content("s", text=source, templated=True)
    started = time.thread_time()
    found = list(templates.faults(content, [Recipient("a@b.example", data=data)]))
    assert time.thread_time() - started < 1
    assert [(fault.part, fault.code) for fault in found] == [("text", code)]
    with pytest.raises(templates.FillError):
        templates.fill(source, data)


def test_each_recipient_who_lacks_a_name_is_named_with_it() -> None:
    content = Content("{{ subject_name }}", "{{ html_name }}", "{{ text_name }}", templated=True)
    whole = {"subject_name": 1, "html_name": 1, "text_name": 1}
    recipients = [
        Recipient("a@b.example", data=whole),
        Recipient("b@b.example", data={**whole, "subject_name": "a\nb"}),
        Recipient("c@b.example", data={"subject_name": 1, "text_name": 1}),
        Recipient("d@b.example", data=None),
    ]
    found = list(templates.faults(content, recipients))
    assert [(fault.recipient, fault.part, fault.code) for fault in found] == [
        (1, "subject", "subject_invalid"),
        (2, "html", "template_undefined"),
        (3, "subject", "template_undefined"),
        (3, "html", "template_undefined"),
        (3, "text", "template_undefined"),
    ]
    assert "html_name" in found[1].message
    assert "text_name" in found[4].message


def test_a_broken_template_is_told_once_and_with_its_line() -> None:
    content = Content("s", text="fine\n{% if %}", templated=True)
    recipients = [Recipient("a@b.example", data={}), Recipient("b@b.example", data={})]
    (fault,) = templates.faults(content, recipients)
    assert fault.recipient is None
    assert "line 2" in fault.message


@pytest.mark.parametrize("value", ["\r", "\n", "\0", "x" * 999, "ü" * 500])
def test_a_filled_subject_is_checked_as_a_posted_one(value: str) -> None:
    content = Content("{{ v }}", text="x", templated=True)
    (fault,) = templates.faults(content, [Recipient("a@b.example", data={"v": value})])
    assert (fault.part, fault.code) == ("subject", "subject_invalid")


@given(st.text(st.sampled_from("{}%# abif.|()'\"\n"), max_size=60))
def test_no_source_raises_anything_but_a_fault(source: str) -> None:
    content = Content("s", text=source, templated=True)
    list(templates.faults(content, [Recipient("a@b.example", data={"a": "x"})]))

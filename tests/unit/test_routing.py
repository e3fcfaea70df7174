"""Which way a message goes, and which transport may take what waits for another."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailer import plugins
from mailer.errors import PluginError, SettingsError
from mailer.hookspecs import hookimpl
from mailer.routing import Ways, kept_by, preferred, route_of, takes_from
from mailer.settings import Settings, load

RULES = (
    "topic:news/*=ses; from:Shop.example = smtp,ses ;from:*.shop.example=smtp; topic:news=maildir"
)


@pytest.mark.parametrize(
    ("topic_id", "from_email", "way"),
    [
        ("news/1", "a@shop.example", ("ses",)),
        ("news", "a@shop.example", ("smtp", "ses")),
        ("news", "a@b.example", ("maildir",)),
        (None, "Shop <a@SHOP.example>", ("smtp", "ses")),
        (None, "a@eu.shop.example", ("smtp",)),
        (None, "a@bigshop.example", ("maildir", "smtp")),
        ("News/1", "a@b.example", ("maildir", "smtp")),
    ],
)
def test_the_first_rule_that_matches_holds(
    topic_id: str | None, from_email: str, way: tuple[str, ...]
) -> None:
    settings = load({"TRANSPORT": "maildir, smtp", "ROUTES": RULES})
    assert settings.ways.choose(topic_id, from_email) == way
    assert settings.ways.names == {"maildir", "smtp", "ses"}


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ("news/*=ses", "neither topic:GLOB=TRANSPORT nor from:GLOB=TRANSPORT"),
        ("topic:news", "neither topic:GLOB"),
        ("to:news=ses", "neither topic:GLOB"),
        ("topic:=ses", "neither topic:GLOB"),
        ("topic:a=ses; from:*@shop.example=smtp", "behind from: stands a domain, without @"),
        ("topic:a=", "'' is no transport's name"),
        ("topic:a=ses,", "'' is no transport's name"),
        ("topic:a=ses,smtp,ses", "a transport stands in it twice"),
        ("topic:a=ses smtp", "'ses smtp' is no transport's name"),
    ],
)
def test_a_rule_of_another_form_is_refused_with_the_reason(rules: str, problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({"ROUTES": rules})
    (fault,) = refused.value.faults
    assert fault.name == "ROUTES"
    assert problem in fault.problem


def test_every_transport_that_is_not_there_is_named_at_the_start(tmp_path: Path) -> None:
    environ = {
        "TRANSPORT": "maildir,pigeon",
        "ROUTES": "topic:a=raven,maildir",
        "MAILDIR_PATH": str(tmp_path),
    }
    manager = plugins.load()
    with pytest.raises(SettingsError) as refused:
        plugins.transports(manager, plugins.settings(manager, environ))
    said = [(fault.name, fault.problem.split()[2]) for fault in refused.value.faults]
    assert said == [("TRANSPORT", "pigeon"), ("ROUTES", "raven")]


def test_a_transport_whose_name_could_be_a_route_is_refused() -> None:
    class Odd:
        @hookimpl
        def mailer_transports(self, settings: Settings) -> dict[str, object]:
            return {"ses,smtp": object()}

    manager = plugins.load({"odd": Odd()})
    with pytest.raises(PluginError, match="plugin odd offers a transport 'ses,smtp'"):
        plugins.transports(manager, plugins.settings(manager, {}))


@pytest.mark.parametrize(
    ("working", "takers"),
    [
        ("abc", "a"),
        ("bc", "ab"),
        ("ac", "a"),
        ("c", "abc"),
        ("", "abc"),
    ],
)
def test_the_next_takes_what_waits_for_one_out_of_service_which_tries_on(
    working: str, takers: str
) -> None:
    for queue in ("a,b,c", "a,b,c@example.org"):
        assert "".join(t for t in "abcd" if takes_from(t, queue, set(working))) == takers
        assert takes_from("a", "a", set(working))
        assert not takes_from("b", "a@example.org", set(working))


def test_a_detour_leads_by_the_first_that_works() -> None:
    ways = Ways(("a", "b", "c"), load({"ROUTES": "topic:x=a,c; topic:y=b; topic:z=c,a"}).routes)
    assert ways.detours(set()) == set()
    assert ways.detours({"a"}) == {("a", "b"), ("a", "c")}
    assert ways.detours({"a", "b"}) == {("a", "c")}
    assert ways.detours({"b"}) == set()
    assert ways.detours({"a", "b", "c"}) == set()


def test_names_of_queues_are_read_back() -> None:
    assert route_of("ses,smtp@example.org") == ("ses", "smtp")
    assert preferred("ses,smtp@example.org") == "ses"
    assert kept_by("smtp", "ses,smtp@example.org") == "smtp@example.org"
    assert kept_by("smtp", "ses,smtp") == "smtp"

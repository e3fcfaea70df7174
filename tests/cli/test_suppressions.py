"""`mailer suppressions`: the list by hand and by file, with the database alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mailer.commands import cli
from mailer.errors import InvalidRequest
from mailer.settings import load
from tests.installation import Installation


class CommandLine:
    """`mailer suppressions` in this process, over a database of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._settings = load({"DATABASE_URL": f"sqlite://{directory}/mailer.db"})
        CliRunner().invoke(cli, ["migrate"], obj=lambda: self._settings, catch_exceptions=False)

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["suppressions", *arguments], obj=lambda: self._settings)

    def imported(self, text: str) -> Result:
        path = self._directory / "list.csv"
        path.write_text(text)
        return self("import", str(path))

    def entries(self) -> list[tuple[Any, ...]]:
        listed = json.loads(self("list", "--json").stdout)
        return [(entry["email"], entry["scope"], entry["reason"]) for entry in listed]


@pytest.fixture
def suppressions(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_added_listed_and_removed(suppressions: CommandLine) -> None:
    added = suppressions("add", "Eve@Example.com", "--detail", "by phone")
    assert added.stdout == "Eve@example.com: added\n"
    again = suppressions("add", "eve@example.com")
    assert again.stdout == "eve@example.com: was on the list already\n"
    suppressions("add", "eve@example.com", "--scope", "news")
    everywhere, news = ("eve@example.com", "", "manual"), ("eve@example.com", "news", "manual")
    assert suppressions.entries() == [everywhere, news]
    assert "by phone" in suppressions("list", "EVE@example.com").stdout

    suppressions("remove", "eve@example.com", "--scope", "news")
    assert suppressions.entries() == [everywhere]
    assert "1 entry removed" in suppressions("remove", "eve@example.com").stdout
    assert suppressions.entries() == []


def test_what_is_no_address_or_group_is_named(suppressions: CommandLine) -> None:
    refused = suppressions("add", "eve", "--scope", "news/may").exception
    assert isinstance(refused, InvalidRequest)
    assert [fault.path for fault in refused.faults] == ["email", "scope"]


def test_export_and_import_give_the_same_list(suppressions: CommandLine, tmp_path: Path) -> None:
    text = (
        "email,scope,reason,created_at,detail\n"
        "ann@example.com,,bounce,2024-01-02T03:04:05.678Z,550 no such user\n"
        'bob@example.com,news,unsubscribe,2024-01-02T03:04:05Z,"a, ""b"""\n'
        "bob@example.com,other,complaint,2024-01-02T03:04:05Z,\n"
    )
    assert suppressions.imported(text).stdout == "3 added, 0 were on the list already\n"
    exported = suppressions("export").stdout

    (tmp_path / "second").mkdir()
    second = CommandLine(tmp_path / "second")
    second.imported(exported)
    assert second("export").stdout == exported
    assert second.imported(exported).stdout == "0 added, 3 were on the list already\n"
    assert [row.split(",")[:3] for row in exported.splitlines()[1:]] == [
        ["ann@example.com", "", "bounce"],
        ["bob@example.com", "news", "unsubscribe"],
        ["bob@example.com", "other", "complaint"],
    ]
    assert ",550 no such user" in exported


def test_an_entry_that_is_there_stays_as_it_is(suppressions: CommandLine) -> None:
    suppressions.imported("email,reason\nann@example.com,complaint\n")
    suppressions.imported("email,reason\nANN@example.com,bounce\n")
    assert suppressions.entries() == [("ann@example.com", "", "complaint")]


def test_email_is_the_only_column_needed_and_others_are_left_aside(
    suppressions: CommandLine,
) -> None:
    lines = "Name, Email\n" + "".join(f"N,a{n}@example.com\n" for n in range(1_200))
    assert suppressions.imported(lines).stdout == "1,200 added, 0 were on the list already\n"
    assert len(suppressions("export").stdout.splitlines()) == 1_201


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "email among them; it names nothing"),
        ("address\na@example.com\n", "it names address"),
        ("email,reason\nann@example.com,bounce\neve,bounce\n", "line 3: email: an address has"),
        ("email,reason\nann@example.com,boredom\n", "line 2: reason: boredom is none of bounce,"),
        ("email,created_at\nann@example.com,soon\n", "line 2: created_at: not a time"),
        ("email,scope\nann@example.com,a/b\n", "line 2: scope: a group is"),
        ("email,reason\nann@example.com\n", "line 2: more or fewer values"),
        ('email\n"ann@example.com\n', "line 2: unexpected end of data"),
    ],
)
def test_a_faulty_file_changes_nothing(suppressions: CommandLine, text: str, words: str) -> None:
    refused = suppressions.imported(text)
    assert refused.exit_code == 2
    assert words in " ".join(refused.stderr.split())
    assert suppressions.entries() == []


def test_import_wants_one_list(suppressions: CommandLine) -> None:
    assert "give a CSV file" in suppressions("import").stderr


def test_as_typed(installation: Installation) -> None:
    done = installation.mailer("suppressions", "list")
    assert (done.returncode, "mailer migrate" in done.stderr) == (1, True)

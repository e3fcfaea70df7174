"""The README is complete, and does what it says when its lines are run as written."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mailer.vocabulary import EventType, OutcomeKind, SuppressionReason
from tests.docs import tables
from tests.installation import Installation
from tests.waiting import until

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


@pytest.mark.parametrize(
    "table",
    [
        tables.api,
        tables.commands,
        tables.settings,
        tables.states,
        tables.diagram,
        tables.waits,
        tables.conditions,
        tables.log_fields,
        tables.metrics,
    ],
    ids=lambda table: table.__name__,
)
def test_tables_follow_from_the_code(table: Callable[[], str]) -> None:
    expected = table()
    assert expected in README, f"the README should hold:\n{expected}"


@pytest.mark.parametrize("words", [EventType, OutcomeKind, SuppressionReason])
def test_every_word_is_there(words: type[EventType]) -> None:
    assert ", ".join(f"`{word}`" for word in words) in README


def test_every_status_of_the_api_is_explained() -> None:
    explained = set(re.findall(r"\b[2-5]\d\d\b", README.partition("### What an answer means")[2]))
    statuses = {
        str(status) for *_, operation in tables.operations() for status in operation.statuses
    }
    assert statuses | {"200", "400", "401", "413", "415", "422", "503"} <= explained


def test_every_command_has_an_example(installation: Installation) -> None:
    for name, command in tables.visible_commands():
        shown = installation.mailer(*name.split()[1:], "--help")
        assert shown.returncode == 0
        assert re.search(rf"Examples?:\n.*{name}", shown.stdout, re.DOTALL), shown
        assert all(option.help for option in tables.options(command)), name


def test_curl_lines_run_as_written(installation: Installation) -> None:
    installation.run()
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert sum(block.count("\ncurl ") for block in blocks) > 15
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        env={**installation.environ, "MAILER": installation.url},
        cwd=installation.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: len(installation.mails()) == 3)
    subjects = sorted(
        line
        for mail in installation.mails()
        for line in mail.read_text().splitlines()
        if line.startswith("Subject:")
    )
    assert subjects == ["Subject: News", "Subject: News", "Subject: Order 4711"]


def test_curl_lines_would_fail_if_the_api_did(installation: Installation) -> None:
    """The control: nobody listens."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        env={**installation.environ, "MAILER": installation.url},
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0

"""plugins/README.md says of hooks what hookspecs say, and its examples run as they are written."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from mailer import hookspecs, testing
from tests.installation import Installation, install_plugin
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "plugins" / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
SKYLARK = [path.read_text() for path in (ROOT / "tests/third_party/skylark").rglob("*.py")]
HOOKS = {
    name: hook
    for name, hook in inspect.getmembers(hookspecs, inspect.isfunction)
    if hasattr(hook, "mailer_spec")
}


def example(beginning: str) -> str:
    (found,) = [source for source in EXAMPLES if source.startswith(f'"""{beginning}')]
    return str(found)


def test_every_hook_is_described_in_its_own_words() -> None:
    headings = []
    for name, hook in HOOKS.items():
        headings.append(f"{name}({', '.join(inspect.signature(hook).parameters)})")
        assert f"### `{headings[-1]}`\n\n{inspect.getdoc(hook)}\n" in GUIDE
    assert sorted(re.findall(r"^### `(.*)`$", GUIDE, re.MULTILINE)) == sorted(headings)


def test_of_every_hook_it_is_said_when_it_is_called_and_what_if_it_raises() -> None:
    rows = re.findall(r"^\| `(mailer_\w+)` \| .+ \| .+ \|$", GUIDE, re.MULTILINE)
    assert sorted(rows) == sorted(HOOKS)


def test_what_stays_is_what_is_public() -> None:
    promised = re.findall(r"`mailer\.(\w+)`", GUIDE.partition("## What stays as it is")[2])
    assert promised == list(hookspecs.PUBLIC_MODULES)
    assert f"version {hookspecs.HOOK_API} of the hooks" in GUIDE


def test_every_tool_for_tests_is_there() -> None:
    tools = {name for name in testing.__all__ if inspect.isclass(getattr(testing, name))}
    assert {f"`{name}`" for name in tools - {"Callback"}} <= set(re.findall(r"`\w+`", GUIDE))


def test_examples_are_as_short_as_promised_or_stand_in_the_third_party_s_code() -> None:
    transport, event_plugin = example("The jsonl transport"), example("How many events")
    for source, lines in ((transport, 40), (event_plugin, 20)):
        assert len([line for line in source.splitlines() if line]) <= lines
    for other in EXAMPLES:
        if other not in (transport, event_plugin):
            assert any(other in source for source in SKYLARK), other


@pytest.fixture
def with_plugin(installation: Installation, tmp_path: Path) -> Installation:
    """With both examples installed."""
    for name, beginning in (("jsonl", "The jsonl transport"), ("tally", "How many events")):
        install_plugin(tmp_path / "site", name, example(beginning))
    installation.environ |= {"PYTHONPATH": str(tmp_path / "site"), "TRANSPORT": "jsonl"}
    installation.run()
    return installation


def test_the_examples_do_what_is_said_of_them(with_plugin: Installation, tmp_path: Path) -> None:
    message = {"subject": "Hello", "text": "Hello", "emails": ["ann@example.com"]}
    status, _ = with_plugin.call("POST", "/v1/messages", {"messages": [message]})
    assert status == 200
    outbox = tmp_path / "outbox.jsonl"
    until(lambda: outbox.exists() and outbox.read_text())
    mail = json.loads(outbox.read_text())
    assert (mail["recipient"], mail["subject"]) == ("ann@example.com", "Hello")

    def counts() -> dict[str, int]:
        status, tally = with_plugin.call("GET", "/v1/tally")
        assert status == 200
        return {key.partition(" ")[2]: count for key, count in tally["events"].items()}

    until(lambda: counts() == {"accepted": 1, "sent": 1})
    assert {"jsonl 1", "tally 1"} <= {row["package"] for row in with_plugin.json("plugins")}

"""What plugins/README.md says of hooks is what hookspecs say, and its example is a transport."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

from mailer import hookspecs
from tests.installation import Installation
from tests.waiting import until

GUIDE = (Path(__file__).parent.parent.parent / "plugins" / "README.md").read_text()


def test_every_hook_is_described_in_its_own_words() -> None:
    hooks = [
        (name, hook)
        for name, hook in inspect.getmembers(hookspecs, inspect.isfunction)
        if hasattr(hook, "mailer_spec")
    ]
    assert len(hooks) >= 2
    for name, hook in hooks:
        parameters = ", ".join(inspect.signature(hook).parameters)
        assert f"### `{name}({parameters})`\n\n{inspect.getdoc(hook)}\n" in GUIDE


def test_the_example_sends(installation: Installation, tmp_path: Path) -> None:
    """Installed as pip would: a module, and metadata with the entry point."""
    site = tmp_path / "site"
    metadata = site / "mailer_jsonl-1.dist-info"
    metadata.mkdir(parents=True)
    (source,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (entry_point,) = re.findall(r"```ini\n.*\nmailer =\n +(.*?)\n```", GUIDE, re.DOTALL)
    (site / "mailer_jsonl.py").write_text(source)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mailer-jsonl\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[mailer]\n{entry_point}\n")
    paths = [str(site), installation.environ.get("PYTHONPATH", "")]
    installation.environ |= {"PYTHONPATH": ":".join(filter(None, paths)), "TRANSPORT": "jsonl"}

    installation.run()
    message = {"subject": "Hello", "text": "Hello", "emails": ["ann@example.com"]}
    status, _ = installation.call("POST", "/v1/messages", {"messages": [message]})
    assert status == 200

    outbox = tmp_path / "outbox.jsonl"
    until(lambda: outbox.exists() and outbox.read_text())
    mail = json.loads(outbox.read_text())
    assert (mail["recipient"], mail["subject"]) == ("ann@example.com", "Hello")

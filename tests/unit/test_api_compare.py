"""Secrets are compared in constant time: no `==` where a token, key or signature stands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mailer

SECRET = re.compile(r"token|signature|secret|api_key|password|\bmac\b", re.IGNORECASE)


def compared(source: str) -> Iterator[str]:
    """What is compared by `==`, `!=`, `in` or a `match` and has a secret's name."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        if any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
            if any(SECRET.search(side) for side in sides):
                yield ast.unparse(node)


def test_no_secret_is_compared_by_equality() -> None:
    root = Path(mailer.__file__).parent
    files = [*root.rglob("*.py"), *(root.parent / "plugins").rglob("*.py")]

    found = [(str(file), text) for file in files for text in compared(file.read_text())]

    assert len(files) > 20
    assert found == []


def test_the_control_is_found() -> None:
    assert list(compared("if request.token == expected: pass")) == ["request.token == expected"]

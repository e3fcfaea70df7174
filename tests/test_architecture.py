"""The rules of the house, checked on the source: which way imports go, where SQL, the environment,
time and chance may be met, how long things get. Each rule is shown to find a small offender.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailer.hookspecs import PUBLIC_MODULES

ROOT = Path(__file__).parent.parent

ROOMS: tuple[tuple[str, ...], ...] = (
    ("vocabulary", "errors", "metrics"),
    ("clock", "limits", "mail", "variables", "routing", "settings"),
    ("hookspecs", "access", "endpoints"),
    ("masking", "log_lines", "journal", "reporting", "sentry"),
    ("plugins", "privileges", "systemd", "wake", "asleep", "confined", "in_hand", "begun"),
    ("retry", "pacing", "windows", "tokens", "templates", "mime", "compose"),
    ("store",),
    ("calls", "handover", "limit_use", "allowance", "attempt_log", "measuring", "gauges"),
    ("records", "sender", "sender_process", "worker", "notifier"),
    ("children", "detours", "duties", "plugin_processes", "supervisor"),
    ("api",),
    ("commands",),
    ("asgi", "__main__", "testing"),
)
"""A module imports from its own row and from those above it."""

PURE = (
    "masking",
    "routing",
    "retry",
    "pacing",
    "windows",
    "tokens",
    "templates",
    "mime",
    "compose",
)
# fmt: off
IMPURE_MODULES = frozenset({
    "asyncio", "os", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time",
    "uuid",
})
# fmt: on
PUBLIC_TO_PLUGINS = frozenset(f"mailer.{name}" for name in PUBLIC_MODULES)
FIRST_PARTY_PLUGINS = frozenset(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir())
SQL_LIBRARIES = frozenset({"sqlite3", "pysqlite3", "sqlite_utils", "apsw"})
SQL = re.compile(
    r"\b(SELECT\b.*\bFROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE|PRAGMA) "
)
SECRET = re.compile(r"(^|_)(api_key|signing_key|secret|signature|mac|token|password)$")
ENTRY_POINTS = frozenset({"mailer.__main__", "mailer.asgi"})
MAX_MODULE_LINES = 350
MAX_FUNCTION_LINES = 60
MAY_SLEEP = frozenset(
    {
        "tests.process.plugins.recorder",
        "tests.process.listeners.listeners",
        "tests.bench.pacing",
        "tests.bench.queued",
        "tests.bench.soak",
        "tests.bench.standing",
    }
)
"""Plugins slow on purpose, and benchmarks that measure over a time; who waits for something uses
`mailer.testing.until`."""

Rule = Callable[[str, ast.Module], Iterator[str]]


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, `mailer.x` also for `from mailer import x`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [f"mailer.{alias.name}" for alias in node.names]
            for name in names if module == "mailer" else [module]:
                yield node.lineno, name


def row(module: str) -> int | None:
    """The row of ROOMS; None for what is not in the table (`mailer.__version__`)."""
    name = [*module.split("."), ""][1]
    return next((number for number, names in enumerate(ROOMS) if name in names), None)


def imports_go_down(module: str, tree: ast.Module) -> Iterator[str]:
    own = row(module)
    if module.split(".")[0] != "mailer" or module == "mailer":
        return
    if own is None:
        yield f"{module} stands in no row of ROOMS"
        return
    for line, name in imports(tree):
        theirs = row(name) if name.startswith("mailer.") else None
        if theirs is not None and theirs > own:
            yield f"{module}:{line} imports {name}, which stands below it"


def core_knows_no_plugin(module: str, tree: ast.Module) -> Iterator[str]:
    for line, name in imports(tree):
        package = name.split(".")[0]
        foreign = package in FIRST_PARTY_PLUGINS or package in {"boto3", "botocore"}
        if foreign and module.split(".")[0] == "mailer":
            yield f"{module}:{line} imports {name}"


def plugins_use_public_names(module: str, tree: ast.Module) -> Iterator[str]:
    if module.split(".")[0] not in FIRST_PARTY_PLUGINS:
        return
    for line, name in imports(tree):
        if name.split(".")[0] == "mailer" and name not in PUBLIC_TO_PLUGINS:
            yield f"{module}:{line} imports {name}, which is not for plugins"


def sql_stays_in_the_store(module: str, tree: ast.Module) -> Iterator[str]:
    if module.startswith("mailer.store"):
        return
    for line, name in imports(tree):
        if name.split(".")[0] in SQL_LIBRARIES:
            yield f"{module}:{line} imports {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and SQL.search(" ".join(str(node.value).split()) + " "):
            yield f"{module}:{node.lineno} has SQL"


def environment_is_for_entry_points(module: str, tree: ast.Module) -> Iterator[str]:
    if module in ENTRY_POINTS:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.alias):
            name = node.attr if isinstance(node, ast.Attribute) else node.name
            if name in {"environ", "getenv"} and not ast.unparse(node).startswith("self."):
                yield f"{module}:{node.lineno} reads the environment"


def decisions_are_pure(module: str, tree: ast.Module) -> Iterator[str]:
    if module.removeprefix("mailer.") not in PURE:
        return
    for line, name in imports(tree):
        if name.split(".")[0] in IMPURE_MODULES or name in {"mailer.clock", "mailer.store"}:
            yield f"{module}:{line} imports {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}:
            yield f"{module}:{node.lineno} reads a clock"


def secrets_are_compared_in_constant_time(module: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        equal = any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops)
        sides = [node.left, *node.comparators]
        names = [getattr(side, "id", getattr(side, "attr", "")) for side in sides]
        if equal and any(SECRET.search(name) for name in names):
            yield f"{module}:{node.lineno} compares {names} with =="


def functions_fit_a_screen(module: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{module}:{node.lineno} {node.name} has {lines} lines"


def modules_tell_one_story(module: str, tree: ast.Module) -> Iterator[str]:
    lines = max((getattr(node, "end_lineno", 0) or 0 for node in ast.walk(tree)), default=0)
    if lines > MAX_MODULE_LINES:
        yield f"{module} has {lines} lines"


PRODUCT_RULES: tuple[Rule, ...] = (
    imports_go_down,
    core_knows_no_plugin,
    plugins_use_public_names,
    sql_stays_in_the_store,
    environment_is_for_entry_points,
    decisions_are_pure,
    secrets_are_compared_in_constant_time,
    functions_fit_a_screen,
    modules_tell_one_story,
)


def events_are_awaited(module: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or module in MAY_SLEEP:
            continue
        if ast.unparse(node) == "time.sleep":
            yield f"{module}:{node.lineno} sleeps"


def nothing_is_skipped(module: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail"}:
            yield f"{module}:{node.lineno} {node.attr}"


TEST_RULES: tuple[Rule, ...] = (
    events_are_awaited,
    nothing_is_skipped,
    functions_fit_a_screen,
    modules_tell_one_story,
)


def modules(folder: str) -> Iterator[tuple[str, ast.Module]]:
    base = ROOT if folder in {"mailer", "tests"} else ROOT / folder
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = list(path.relative_to(base).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text())


@pytest.mark.parametrize("rule", PRODUCT_RULES, ids=lambda rule: rule.__name__)
def test_product(rule: Rule) -> None:
    product = [*modules("mailer"), *modules("plugins")]
    assert len(product) > 50
    assert [found for name, tree in product for found in rule(name, tree)] == []


@pytest.mark.parametrize("rule", TEST_RULES, ids=lambda rule: rule.__name__)
def test_tests(rule: Rule) -> None:
    assert [found for name, tree in modules("tests") for found in rule(name, tree)] == []


LONG = "\n".join(["def f():", *["    x = 1"] * MAX_FUNCTION_LINES])

OFFENDERS: tuple[tuple[Rule, str, str], ...] = (
    (imports_go_down, "mailer.retry", "from mailer.store import Store"),
    (imports_go_down, "mailer.store.queue", "from mailer import sender"),
    (imports_go_down, "mailer.vocabulary", "def f():\n    import mailer.settings"),
    (imports_go_down, "mailer.utils", ""),
    (core_knows_no_plugin, "mailer.sender", "import mailer_smtp.server"),
    (core_knows_no_plugin, "mailer.duties", "from boto3 import client"),
    (plugins_use_public_names, "mailer_smtp.server", "from mailer.store import Store"),
    (plugins_use_public_names, "mailer_maildir", "from mailer import clock"),
    (sql_stays_in_the_store, "mailer.api.topics", "import sqlite3"),
    (sql_stays_in_the_store, "mailer.duties", "x = 'SELECT id\\n  FROM mails'"),
    (sql_stays_in_the_store, "mailer.duties", "x = f'DELETE FROM {table}'"),
    (environment_is_for_entry_points, "mailer.settings", "import os\nx = os.environ['A']"),
    (environment_is_for_entry_points, "mailer_smtp", "from os import getenv"),
    (decisions_are_pure, "mailer.retry", "import random"),
    (decisions_are_pure, "mailer.pacing", "from time import monotonic"),
    (decisions_are_pure, "mailer.compose", "from datetime import datetime as d\nx = d.now()"),
    (secrets_are_compared_in_constant_time, "mailer.x", "ok = given == settings.api_key"),
    (secrets_are_compared_in_constant_time, "mailer.x", "ok = signature != mac"),
    (functions_fit_a_screen, "mailer.x", LONG),
    (modules_tell_one_story, "mailer.x", "x = 1\n" * (MAX_MODULE_LINES + 1)),
    (events_are_awaited, "tests.unit.x", "import time\ntime.sleep(1)"),
    (nothing_is_skipped, "tests.unit.x", "@pytest.mark.xfail\ndef test(): pass"),
)


@pytest.mark.parametrize(("rule", "module", "source"), OFFENDERS)
def test_each_rule_finds_an_offender(rule: Rule, module: str, source: str) -> None:
    assert list(rule(module, ast.parse(source)))


def test_every_rule_has_an_offender() -> None:
    assert {rule for rule, _, _ in OFFENDERS} == {*PRODUCT_RULES, *TEST_RULES}

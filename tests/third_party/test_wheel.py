"""A stranger's package: built as a wheel, installed beside mailer in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "skylark"
TESTS = "skylark_tests"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's environment in `.venv`, its tests beside it, its sources nowhere."""
    checkout = tmp_path_factory.mktemp("checkout")
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(PACKAGE, checkout, dirs_exist_ok=True)
    (checkout / TESTS).rename(place / TESTS)
    pip = [sys.executable, "-m", "pip"]
    offline = ["--no-index", "--no-deps", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", *offline, "--no-build-isolation", ".", cwd=checkout)
    (wheel,) = checkout.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", ".venv", cwd=place)
    run(*pip, "--python", ".venv/bin/python", "install", *offline, str(wheel), cwd=place)
    # mailer and what it needs are taken from here, as an index would give them.
    (inner,) = (place / ".venv" / "lib").glob("python*/site-packages")
    outer = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (inner / "mailer_from_outside.pth").write_text("\n".join(outer))
    return place


def run(*command: str, cwd: Path) -> str:
    environ = {"PATH": os.defpath, "HOME": str(cwd), "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_listed_where_it_is_installed_and_nowhere_else(place: Path) -> None:
    def listed(python: str) -> dict[str, dict[str, object]]:
        rows = json.loads(run(python, "-m", "mailer", "plugins", "--json", cwd=place))
        return {row["name"]: row for row in rows}

    inside = listed(".venv/bin/python")
    hooks = ["mailer_commands", "mailer_notifications", "mailer_settings", "mailer_transports"]
    assert inside.pop("skylark") == {
        "name": "skylark",
        "package": "mailer-skylark 1.2",
        "hooks": hooks,
        "refused": "",
    }
    assert listed(sys.executable) == inside


def test_its_own_tests_pass_there(place: Path) -> None:
    """Mailer's contracts, and a mail that goes out through it."""
    told = run(".venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS, cwd=place)
    assert " passed" in told

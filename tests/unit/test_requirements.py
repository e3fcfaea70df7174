"""deploy/requirements.txt pins, with hashes, what setup.cfg asks for, and names no registry."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
PINS = (ROOT / "deploy" / "requirements.txt").read_text()


def test_everything_asked_for_is_pinned() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = [
        Requirement(line) for line in setup["options"]["install_requires"].split("\n") if line
    ]
    pinned = dict(re.findall(r"^(\S+)==(\S+)", PINS, re.MULTILINE))
    missing = [
        str(requirement)
        for requirement in [*wanted, Requirement("setuptools>=68")]
        if not requirement.specifier.contains(pinned.get(requirement.name, "0"))
    ]
    assert missing == [], "run deploy/lock.sh"


def test_every_pin_has_hashes_and_nothing_else() -> None:
    for pin in re.split(r"\n(?=\S)", PINS.strip()):
        assert re.fullmatch(r"[\w.-]+==\S+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", pin)

"""`deploy/try.sh` on a fresh checkout: it installs, sends all, and leaves nothing running."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from contextlib import closing, suppress
from pathlib import Path

import pytest

from mailer.settings import load
from mailer.store import Store
from mailer.store.migrate import migrate
from mailer.store.outcomes import rules_of
from mailer.vocabulary import SCOPE_EVERYWHERE, SuppressionReason
from tests.installation import free_port
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git would check out, at another place; its virtual environment is made once."""
    copy = tmp_path_factory.mktemp("fresh") / "mailer"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A clean home, a working directory elsewhere, settings that must not be taken."""
    return {
        **{name: value for name, value in os.environ.items() if name not in {"PYTHONPATH"}},
        "HOME": str(tmp_path),
        "SERVER_PORT": str(free_port()),
        "SMTP_URL": "smtp://mail.example.com",
        "TRANSPORT": "smtp",
        "JWT_SECRET": "x" * 40,
    }


def run(checkout: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "deploy" / "try.sh", "--once"],
        cwd=environ["HOME"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_once_and_once_more_from_elsewhere(checkout: Path, environ: dict[str, str]) -> None:
    maildir = checkout / "try" / "maildir" / "new"
    first = run(checkout, environ)
    assert first.returncode == 0, first.stdout + first.stderr
    assert len(list(maildir.iterdir())) == 1000
    topic = json.loads(re.search(r"^try-\S+: (\{.*?^\})", first.stdout, re.M | re.S)[1])  # type: ignore[index]
    assert (topic["total"], topic["success"], topic["failure"]) == (1000, 1000, 0)
    assert str(maildir) in first.stdout
    assert "curl " in first.stdout
    assert list(Path(environ["HOME"]).glob("*.db")) == []

    # Again, without a package index: nothing is installed a second time.
    again = run(checkout, {**environ, "PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_NO_INDEX": "1"})
    assert again.returncode == 0, again.stdout + again.stderr
    assert "installing" not in again.stderr
    assert len(list(maildir.iterdir())) == 2000


def test_it_takes_another_port_when_its_own_is_taken(
    checkout: Path, environ: dict[str, str]
) -> None:
    del environ["SERVER_PORT"]
    with closing(socket.socket()) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # then somebody else has it
            holder.bind(("127.0.0.1", 3000))
            holder.listen()
        done = run(checkout, environ)
    assert done.returncode == 0, done.stdout + done.stderr
    (port,) = re.findall(r"^curl http://127\.0\.0\.1:(\d+)/", done.stdout, re.MULTILINE)
    assert port != "3000"


def start(
    checkout: Path, environ: dict[str, str], output: Path, until_it_says: bytes
) -> subprocess.Popen[bytes]:
    with output.open("wb") as file:
        process = subprocess.Popen(
            [checkout / "deploy" / "try.sh"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    until(lambda: until_it_says in output.read_bytes(), within_s=120)
    return process


def test_it_stays_up_until_ctrl_c(checkout: Path, environ: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "output"
    process = start(checkout, environ, output, b"Up until Ctrl-C")
    (line,) = re.findall(r"^curl .*$", output.read_text(), re.MULTILINE)
    one_more = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(one_more.stdout)["success"] == 1

    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert processes_of(checkout) == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_killed_while_sending_it_leaves_nothing_running(
    checkout: Path, environ: dict[str, str], tmp_path: Path, how: signal.Signals
) -> None:
    process = start(checkout, environ, tmp_path / "output", b"mails accepted")
    process.send_signal(how)
    process.wait(timeout=20)
    until(lambda: not processes_of(checkout), within_s=20)


def test_once_fails_when_a_mail_is_not_sent(checkout: Path, environ: dict[str, str]) -> None:
    database = checkout / "try" / "mailer.db"
    database.parent.mkdir(exist_ok=True)
    migrate(database)
    store = Store(database, rules_of(load({})))
    with store.write():
        store.suppressions.add(
            "reader0500@example.com",
            scope=SCOPE_EVERYWHERE,
            reason=SuppressionReason.MANUAL,
            detail="",
            now_ms=0,
        )
    store.close()
    done = run(checkout, environ)
    assert done.returncode == 1
    assert '"suppressed": 1' in done.stdout


def processes_of(checkout: Path) -> list[str]:
    """Command lines of what still runs from this checkout."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(checkout) in command:
            found.append(command)
    return found

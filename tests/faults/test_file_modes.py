"""Nobody else can read what mailer keeps: neither from the start nor after a careless copy."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mailer.store.migrate import migrate
from tests import weakened
from tests.faults.mailer_run import MailerRun
from tests.waiting import until

CARELESS = ("sh", "-c", 'umask 022; exec "$@"', "sh")


@pytest.mark.parametrize("existing", [False, True])
def test_files_are_for_their_owner_alone(
    tmp_path: Path, start: Callable[..., MailerRun], existing: bool
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    database = home / "mailer.db"
    if existing:
        killed = start(database).serving()
        killed.kill()
        for name in ("mailer.db", "mailer.db-wal", "mailer.db-shm", "mailer.db-lock"):
            (home / name).chmod(0o644)
    told = {"WEBHOOK_ENDPOINTS": "https://127.0.0.1:9/nobody"}
    run = start(database, under=CARELESS, TRANSPORT="maildir", **told).serving()
    assert run.call("POST", "/v1/messages", {"messages": [MESSAGE]})[0] == 200
    until(run.mails)
    until((home / "mailer.db-notifier-webhook").exists)
    files = modes(home)
    of_senders = {name for name in files if name.startswith("mailer.db-sender-")}
    assert of_senders
    assert files == {
        **dict.fromkeys(of_senders, 0o600),
        "mailer.db": 0o600,
        "mailer.db-lock": 0o600,
        "mailer.db-notifier-webhook": 0o600,
        "mailer.db-reserve": 0o600,
        "mailer.db-shm": 0o600,
        "mailer.db-supervisor": 0o600,
        "mailer.db-wake": 0o700,
        "mailer.db-wal": 0o600,
    }
    assert modes(run.maildir) == {"cur": 0o700, "new": 0o700, "tmp": 0o700}
    assert set(modes(run.maildir / "new").values()) == {0o600}
    assert stat.S_IMODE(run.maildir.stat().st_mode) == 0o700


@pytest.mark.parametrize("command", ["serve", "supervise"])
def test_a_database_restored_carelessly_is_closed_to_others(
    tmp_path: Path, start: Callable[..., MailerRun], command: str
) -> None:
    database = tmp_path / "mailer.db"
    migrate(database)
    database.chmod(0o644)
    start(database, command)
    until(lambda: modes(tmp_path)["mailer.db"] == 0o600)


def test_control_without_care_for_modes_everybody_reads(
    tmp_path: Path, start: Callable[..., MailerRun]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    database = home / "mailer.db"
    careless = {"under": CARELESS, "without": weakened.private_modes}
    assert start(database, "migrate", **careless).ended() == 0
    start(database, "serve", **careless).serving()
    names = {"mailer.db", "mailer.db-lock", "mailer.db-shm", "mailer.db-wal"}
    assert modes(home) == dict.fromkeys(names, 0o644)


MESSAGE = {"emails": ["a@example.com"], "subject": "Hello", "content": "<p>Hello"}


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}

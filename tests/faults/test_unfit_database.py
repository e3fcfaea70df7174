"""What is no fit database is refused at the start: one sentence names it and what to do next."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from mailer.errors import StoreInUse
from mailer.store.connection import sqlite3
from mailer.store.housekeeping import SupervisorLock
from mailer.store.migrate import migrate
from tests.faults.fault import WITHOUT_ROOTS_POWER, ext4
from tests.faults.mailer_run import MailerRun

COMMANDS = ("supervise", "serve", "run")


def text_file(path: Path) -> None:
    path.write_text("Dear diary,\n" * 500)


def foreign(path: Path) -> None:
    execute(path, "CREATE TABLE songs (title)")


def directory(path: Path) -> None:
    path.mkdir()


def missing_directory(path: Path) -> None:
    path.parent.rmdir()


def corrupt(path: Path) -> None:
    migrate(path)
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xaa" * 4096)


def from_the_future(path: Path) -> None:
    migrate(path)
    execute(
        path,
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
        " VALUES ('mailer', 'm999_from_the_future', '')",
    )


def lock_file_of_another(path: Path) -> None:
    migrate(path)
    path.with_name(path.name + "-lock").write_text("this is not a number")


UNFIT: dict[Callable[[Path], None], str] = {
    text_file: "Restore a back-up",
    foreign: "let DATABASE_URL name another file",
    directory: "is a directory: let DATABASE_URL name a file.",
    missing_directory: "does not exist",
    corrupt: "Restore a back-up",
    from_the_future: "install that version again, or restore a back-up",
    lock_file_of_another: "remove it if",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("make", UNFIT, ids=lambda make: make.__name__)
def test_the_start_is_refused_in_a_sentence(
    tmp_path: Path, start: Callable[..., MailerRun], make: Callable[[Path], None], command: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    database = home / "mailer.db"
    make(database)
    before = contents(home)
    run = start(database, command)
    assert run.ended() == 1
    (sentence,) = [line for line in run.log.splitlines() if line.startswith("Error: ")]
    assert str(home) in sentence
    assert UNFIT[make] in sentence
    assert "Traceback" not in run.log
    assert before.items() <= contents(home).items()


def test_an_older_schema_is_for_migrate_alone(
    tmp_path: Path, start: Callable[..., MailerRun]
) -> None:
    database = tmp_path / "mailer.db"
    database.touch()
    for command in ("supervise", "serve"):
        run = start(database, command)
        assert run.ended() == 1
        assert f"Error: {database} has an older schema: run `mailer migrate` first." in run.log
        assert database.stat().st_size == 0
    assert run.mailer("migrate").returncode == 0
    start(database).serving()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_file_yet(tmp_path: Path, start: Callable[..., MailerRun], command: str) -> None:
    run = start(tmp_path / "mailer.db", command)
    if command == "run":
        run.serving()
    else:
        assert run.ended() == 1
        assert re.search(r"^Error: \S+/mailer\.db .*mailer migrate", run.log, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_mounted_read_only(
    tmp_path: Path, start: Callable[..., MailerRun], command: str
) -> None:
    with ext4(tmp_path, 16) as disk:
        migrate(disk.path / "mailer.db")
        disk.set_read_only(True)
        run = start(disk.path / "mailer.db", command)
        assert run.ended() == 1
        assert f"Error: {disk.path} can't be written" in run.log
        assert "Put that right" in run.log
        disk.set_read_only(False)
        start(disk.path / "mailer.db").serving()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_nobody_may_write(
    tmp_path: Path, start: Callable[..., MailerRun], command: str
) -> None:
    database = tmp_path / "mailer.db"
    migrate(database)
    database.chmod(0o400)
    run = start(database, command, under=WITHOUT_ROOTS_POWER)
    assert run.ended() == 1
    assert f"Error: {database} can't be written" in run.log
    database.chmod(0o600)
    start(database).serving()


@pytest.mark.parametrize("command", [*COMMANDS, "migrate"])
def test_a_network_file_system(
    tmp_path: Path, start: Callable[..., MailerRun], command: str
) -> None:
    """The process sees a table of mounts in which the directory is one."""
    home = tmp_path / "home"
    home.mkdir()
    mounts = Path("/proc/self/mountinfo").read_text()
    (tmp_path / "mounts").write_text(f"{mounts}999 1 0:99 / {home} rw - nfs4 server:/mail rw\n")
    script = 'mount --bind "$0" /proc/$$/mountinfo && exec "$@"'
    under = ("unshare", "--mount", "sh", "-c", script, tmp_path / "mounts")
    if command != "migrate":
        migrate(home / "mailer.db")
    before = contents(home)
    run = start(home / "mailer.db", command, under=under)
    assert run.ended() == 1
    assert f"lies on a network file system (nfs4 at {home})" in run.log
    assert contents(home) == before


def test_one_database_has_one_supervisor_whatever_it_is_called(tmp_path: Path) -> None:
    database = tmp_path / "mailer.db"
    migrate(database)
    (tmp_path / "link.db").symlink_to(database)
    lock = SupervisorLock(database)
    with pytest.raises(StoreInUse, match="another supervisor"):
        SupervisorLock(tmp_path / "link.db")
    lock.release()


def contents(directory: Path) -> dict[str, str]:
    """A digest of every file there."""
    if not directory.exists():
        return {}
    files = (path for path in directory.iterdir() if path.is_file())
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in files}


def execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)

"""The WAL stays within its bounds: under load, and after a reader that held it back has gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mailer.store.housekeeping import WAL_LIMIT_BYTES
from tests.faults.load import Load, integrity, reading
from tests.faults.mailer_run import MailerRun
from tests.waiting import until


def test_load_does_not_make_it_grow_without_end(
    tmp_path: Path, start: Callable[..., MailerRun]
) -> None:
    database = tmp_path / "mailer.db"
    run = start(database).serving()
    content = "x" * 200_000
    largest = written = 0
    with Load(run, clients=2, pause_s=0.02, content=content) as load:
        while written < WAL_LIMIT_BYTES + WAL_LIMIT_BYTES // 4:
            load.wait_for(len(load.accepted) + 10)
            written = len(load.accepted) * len(content)
            largest = max(largest, wal_bytes(database))
    assert largest <= WAL_LIMIT_BYTES
    assert load.refused == {}


def test_it_comes_back_when_a_long_reader_has_gone(
    tmp_path: Path, start: Callable[..., MailerRun]
) -> None:
    database = tmp_path / "mailer.db"
    run = start(database).serving()
    with Load(run, content="x" * 500_000) as load:
        with reading(database):
            until(lambda: wal_bytes(database) > WAL_LIMIT_BYTES, within_s=60)
        until(lambda: wal_bytes(database) < WAL_LIMIT_BYTES // 2)
    assert load.refused == {}
    assert run.terminate() == 0
    assert wal_bytes(database) == 0
    assert integrity(database) == "ok"


def wal_bytes(database: Path) -> int:
    wal = database.with_name(database.name + "-wal")
    return wal.stat().st_size if wal.exists() else 0

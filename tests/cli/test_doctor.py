"""`mailer doctor`: what is well is said to be, each fault is named with what to do, none raises."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailer import plugins
from mailer.clock import Clock
from mailer.commands import checks
from mailer.commands.doctor import examined
from mailer.hookspecs import Check
from mailer.settings import Settings
from mailer.store.migrate import migrate
from mailer.vocabulary import CheckResult, EventType
from tests.installation import Installation, install_plugin
from tests.store.world import START_MS, World, event
from tests.waiting import until

OK, WARNING, FAILURE = CheckResult


@dataclass
class HandClock:
    world: World
    boot_id: str = ""

    def wall_ms(self) -> int:
        return self.world.now_ms

    def mono_us(self) -> int:
        return self.world.now_us


@pytest.fixture
def world(tmp_path: Path) -> World:
    migrate(tmp_path / "mailer.db")
    return World(tmp_path / "mailer.db")


def settings_for(directory: Path, **more: str) -> Settings:
    environ = {"DATABASE_URL": f"sqlite://{directory}/mailer.db", **more}
    return plugins.settings(plugins.load(), environ)


def looked(world: World, **more: str) -> dict[str, Check]:
    clock: Clock = HandClock(world)
    settings = settings_for(world.path.parent, **more)
    return {check.name: check for check in checks.local(settings, clock)}


def doctored(directory: Path, within_s: float = 20.0) -> dict[str, Check]:
    found = examined(lambda: settings_for(directory), within_s)
    return {check.name: check for check in found}


def test_all_is_well_with_a_mailer_that_runs(installation: Installation) -> None:
    installation.run()

    def failed() -> list[dict[str, str]]:
        lines = json.loads(installation.mailer("doctor", "--json").stdout)
        return [line for line in lines if line["result"] == "failure" or line["name"] == "senders"]

    until(lambda: [line["finding"] for line in failed()] == ["2 of 2 alive"], within_s=30)
    shown = installation.mailer("doctor")
    assert shown.returncode == 0
    assert "ok       supervisor         process" in shown.stdout
    assert "mail leaves by maildir" in shown.stdout
    assert "maildir can be written" in shown.stdout


def test_what_does_not_run_is_a_failure(world: World, installation: Installation) -> None:
    shown = installation.mailer("doctor")
    assert shown.returncode == 1
    assert "failure  supervisor         none works on this database" in shown.stdout
    assert "→ start `mailer supervise`" in shown.stdout
    assert "failure  API" in shown.stdout
    assert shown.stderr == ""


def test_without_a_database_the_next_step_is_said(tmp_path: Path) -> None:
    check = doctored(tmp_path)["database"]
    assert check.result is FAILURE
    assert "mailer migrate" in check.finding


def test_an_older_schema_is_a_failure(world: World) -> None:
    world.close()
    with sqlite3.connect(world.path) as connection:
        connection.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'm002%'")
    check = doctored(world.path.parent)["database"]
    assert (check.result, "older schema" in check.finding) == (FAILURE, True)


def test_every_wrong_setting_is_a_line(installation: Installation) -> None:
    done = installation.mailer("doctor", "--json", SENDERS="none", API_KEY="short")
    lines = json.loads(done.stdout)
    assert done.returncode == 1
    assert {line["name"] for line in lines} == {"setting SENDERS", "setting API_KEY"}
    assert all(line["advice"].startswith("accepted: ") for line in lines)


MOUNTS = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:50 / /srv rw,relatime shared:1 - nfs4 filer:/export rw
41 40 0:51 / /srv/my\\040mail rw,relatime - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("database", "result"),
    [
        ("/var/lib/mailer/mailer.db", OK),
        ("/srv/mailer.db", FAILURE),
        ("/srv/my mail/mailer.db", OK),
        ("/srvice/mailer.db", OK),
    ],
)
def test_a_network_file_system_is_no_place_for_it(database: str, result: CheckResult) -> None:
    assert checks.file_system(Path(database), MOUNTS).result is result


def test_files_that_others_may_read(world: World) -> None:
    assert looked(world)["file modes"].result is OK
    reserve = world.path.with_name("mailer.db-reserve")
    reserve.touch(mode=0o644)
    check = looked(world)["file modes"]
    assert (check.result, "mailer.db-reserve (644)" in check.finding) == (WARNING, True)


def test_a_journal_that_another_program_has_switched(world: World) -> None:
    world.close()
    with sqlite3.connect(world.path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    assert looked(world)["journal"].result is FAILURE


def test_a_clock_that_was_set_back(world: World) -> None:
    world.accept("ann@example.org")
    world.now_ms -= 3_600_000
    check = looked(world)["clock"]
    assert (check.result, "3,600 s from now" in check.finding) == (WARNING, True)


def test_mail_that_waits_too_long(world: World) -> None:
    world.accept("ann@example.org")
    world.pass_s(200)
    assert looked(world)["queue"].result is OK
    world.pass_s(200)
    check = looked(world)["queue"]
    assert (check.result, "due 400 s ago" in check.finding) == (WARNING, True)


def test_a_paused_transport_is_named_with_the_provider_s_words(world: World) -> None:
    assert "transport" not in looked(world)
    with world.store.write():
        world.store.transports.register("post", reports_events=True)
        world.store.transports.block("post", world.now_us + 60_000_000, "421 too many")
    assert looked(world)["transport"].finding == "post is paused for 60 s: 421 too many"


def test_a_restored_database_that_is_held(world: World) -> None:
    assert "hold" not in looked(world)
    world.close()
    with sqlite3.connect(world.path) as connection:
        connection.execute("UPDATE meta SET held_since_ms = ?", (START_MS,))
    assert (looked(world)["hold"].result, "mailer release" in looked(world)["hold"].advice) == (
        FAILURE, True,
    )  # fmt: skip


def test_events_that_stay_away(world: World) -> None:
    def events() -> Check:
        return looked(world, TRANSPORT="post")["events"]

    with world.store.write():
        world.store.transports.register("post", reports_events=True)
    assert (events().result, events().finding) == (OK, "the last one came never")
    world.accept("ann@example.org")
    world.record(world.claim(), provider_id="p-1")
    assert events().result is WARNING
    told = event(EventType.DELIVERY, provider_id="p-1", source_event_id="1", at_ms=START_MS)
    world.learn(told)
    assert events().result is OK


PLUGIN = """
import time
from mailer.hookspecs import hookimpl
@hookimpl
def mailer_checks(settings):
    {}
"""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('no licence')", "the check itself failed: RuntimeError: no licence"),
        ("raise OSError('no route')", "no route"),
        ("raise SystemExit(0)", "the check itself failed: SystemExit: 0"),
        ("return ['a string']", "the check itself failed: "),
        ("time.sleep(60)", "did not end within 3 s"),
    ],
    ids=["raises", "no network", "exits", "answers junk", "hangs"],
)
def test_a_plugin_s_check_can_not_end_the_doctor(
    world: World, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    name = f"doctored_{abs(hash(body))}"
    site = world.path.parent / "site"
    site.mkdir()
    install_plugin(site, name, PLUGIN.format(body))
    monkeypatch.syspath_prepend(site)

    found = doctored(world.path.parent, within_s=3)

    check = found[f"plugin {name}"]
    assert (check.result, check.finding.startswith(words)) == (FAILURE, True)
    assert found["database"].result is OK
    assert "maildir" in found

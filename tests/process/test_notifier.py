"""Event plugins gone wrong in every way harm themselves alone; killed at random, they miss nothing.

Facts by which this is judged: other plugins hear of events within a second of when they happened,
and mail is handed over at nine tenths of its rate or more.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailer.hookspecs import ProviderEvent
from mailer.notifier import ENDED, EVENTS_A_COMMIT
from mailer.vocabulary import EventType
from tests.counts import FULL, often
from tests.process.harness import LISTENERS, Mailer, addresses
from tests.waiting import until

pytestmark = pytest.mark.alone

PLUGINS = ("one", "two", "bad")
RATE = 100
TRIES = 2
SECONDS = 5 if FULL else 2
KILLS = often(200)
KILL_EVERY_S = 0.5
FED_AT_ONCE = 500


class Heard(NamedTuple):
    """One event as a plugin was told of it."""

    at_us: int
    id: str
    type: str
    mail_id: str

    @property
    def place(self) -> int:
        return int(self.id.partition("-")[0])


def heard(mailer: Mailer, plugin: str) -> list[Heard]:
    path = mailer.directory / f"heard-{plugin}"
    lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else ()
    return [Heard(int(at_us), *rest) for at_us, *rest in map(str.split, lines)]


def tell(mailer: Mailer, how: str, plugin: str = "bad") -> None:
    (mailer.directory / f"told-{plugin}").write_text(how)


def cursors(mailer: Mailer) -> dict[str, int]:
    return dict(
        mailer.rows(
            "SELECT plugin, event FROM cursors"
            " WHERE plugin NOT IN (SELECT plugin FROM idle_plugins)"
        )
    )


def dead(mailer: Mailer) -> list[tuple[int, int, str]]:
    """The dead letters: event, failures, detail. None but `bad` has any."""
    rows = mailer.rows("SELECT plugin, event, failures, detail FROM dead_letters ORDER BY event")
    assert {plugin for plugin, *_ in rows} <= {"bad"}
    return [(event, failures, detail) for _, event, failures, detail in rows]


def all_told(mailer: Mailer) -> bool:
    ((end,),) = mailer.rows("SELECT max(id) FROM events")
    return set(cursors(mailer).values()) == {end}


def lateness_s(mailer: Mailer, plugin: str, mails: Collection[str]) -> float:
    """How long after the hand-over of these mails a plugin heard that they were sent, at worst."""
    handed_over = {call.request_id: call.at_us for call in mailer.hand_overs()}
    return max(
        (h.at_us - handed_over[h.mail_id]) / 1e6
        for h in heard(mailer, plugin)
        if h.type == "sent" and h.mail_id in mails
    )


def told_of_sending(mailer: Mailer, plugin: str, mails: Collection[str]) -> Counter[str]:
    """How often a plugin heard of each of these mails that it was sent."""
    told = (h.mail_id for h in heard(mailer, plugin) if h.type == "sent")
    return Counter(mail for mail in told if mail in mails)


def listening(directory: Path, **settings: str) -> Mailer:
    """An installation whose three plugins have begun to listen."""
    directory.mkdir(exist_ok=True)
    usual: dict[str, Any] = {
        "MAX_SEND_PER_SECOND": str(RATE),
        "PLUGIN_TRIES": str(TRIES),
        "PLUGIN_TIMEOUT_S": "2",
        "PLUGIN_MEMORY_MB": "200",
    }
    mailer = Mailer(directory, plugins=[LISTENERS], **(usual | settings))
    mailer.accepted("hello@example.com")
    until(mailer.finished)
    until(lambda: all_told(mailer), within_s=60)
    return mailer


@pytest.fixture(scope="module")
def mailer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailer]:
    """One for all ways of going wrong."""
    started = listening(tmp_path_factory.mktemp("listening"))
    yield started
    assert "a secret" not in started.log
    assert started.log_path.stat().st_size < 1_000_000
    started.assert_sound()
    started.end()


WAYS = {
    "exit": ENDED,
    "eat": ENDED,
    "segfault": ENDED,
    "hang": ENDED,
    "hang with the interpreter held": ENDED,
    "raise": "RuntimeError: a secret",
    "SystemExit": "SystemExit: 0",
    "print": None,
    "junk": None,
}


@pytest.mark.parametrize("how", WAYS)
def test_a_plugin_gone_wrong_harms_itself_alone(mailer: Mailer, how: str) -> None:
    before = set(dead(mailer))
    tell(mailer, how)
    (poison,) = mailer.accepted("poison@example.com")
    mails = mailer.accepted(*addresses(RATE * SECONDS))
    until(mailer.finished, within_s=30)
    calls = [call.at_us for call in mailer.hand_overs() if call.request_id in mails]
    rate = (len(calls) - 1) / ((max(calls) - min(calls)) / 1e6)
    until(lambda: all_told(mailer), within_s=60)
    late_s = max(lateness_s(mailer, plugin, mails) for plugin in ("one", "two"))
    print(f"\n{how}: {rate:.1f} mails/s of {RATE}, the others' events at most {late_s:.2f} s late")
    assert late_s <= 1
    assert rate >= 0.9 * RATE
    once = dict.fromkeys([poison, *mails], 1)
    for plugin in ("one", "two"):
        assert told_of_sending(mailer, plugin, once) == once
    told = told_of_sending(mailer, "bad", once)
    assert set(told) == set(once)
    letters = [(failures, detail) for *_, failures, detail in set(dead(mailer)) - before]
    if WAYS[how] is None:
        assert told[poison] == 1
        assert letters == []
    else:
        assert told[poison] == TRIES
        ((failures, detail),) = letters
        assert failures == TRIES
        assert detail.startswith(str(WAYS[how]))


def test_status_names_it(mailer: Mailer) -> None:
    asking = mailer.spawn("status", "--json", stdout=subprocess.PIPE)
    output, _ = asking.communicate(timeout=30)
    found = {plugin["plugin"]: plugin for plugin in json.loads(output)["event_plugins"]}
    assert found["bad"]["dead_letters"] == len(dead(mailer))
    assert [found[name]["events_behind"] for name in PLUGINS] == [0, 0, 0]


def test_control_a_plugin_that_can_not_run_is_found_to_be_late(mailer: Mailer) -> None:
    pid = mailer.children()["notifier one"]
    os.kill(pid, signal.SIGSTOP)
    mails = mailer.accepted(*addresses(RATE * 2))
    until(mailer.finished)
    os.kill(pid, signal.SIGCONT)
    until(lambda: all_told(mailer))
    assert lateness_s(mailer, "one", mails) > 1
    assert lateness_s(mailer, "two", mails) <= 1


def test_control_events_that_are_missed_would_be_seen_to_be(mailer: Mailer) -> None:
    """A cursor that someone else moves on skips what lies between."""
    pid = mailer.children()["notifier one"]
    os.kill(pid, signal.SIGSTOP)
    feed(mailer, FED_AT_ONCE)
    with closing(mailer.store()) as store, store.write():
        before = store.cursors.get("one").event
        store.cursors.move("one", before, before + 5)
    os.kill(pid, signal.SIGCONT)
    until(lambda: all_told(mailer))
    missed = {h.place for h in heard(mailer, "two")} - {h.place for h in heard(mailer, "one")}
    assert missed == set(range(before + 1, before + 6))


def test_control_it_is_the_time_limit_that_cuts_a_hanging_plugin_off(tmp_path: Path) -> None:
    mailer = listening(tmp_path, PLUGIN_TIMEOUT_S="3600")
    tell(mailer, "hang")
    mailer.accepted("poison@example.com")
    (last,) = mailer.accepted("last@example.com")
    until(lambda: all(told_of_sending(mailer, name, [last]) for name in ("one", "two")))
    assert not told_of_sending(mailer, "bad", [last])
    tell(mailer, "junk")
    mailer.kill(mailer.children()["notifier bad"])
    until(lambda: told_of_sending(mailer, "bad", [last]))
    mailer.end()


@pytest.mark.timeout(900)
def test_killed_at_random_none_misses_an_event(tmp_path: Path) -> None:
    """Order is kept, repeats are bounded, a shelf counts each event once; memory stays flat."""
    mailer = listening(tmp_path, LISTENERS_PAUSE_S="0.0005", PLUGIN_TRIES="10")
    first = mailer.rows("SELECT max(id) FROM events")[0][0] + 1
    count, chance, kills = often(50_000), random.Random(7), Counter[str]()
    feeder = threading.Thread(target=feed, args=(mailer, count))
    feeder.start()
    while feeder.is_alive() or not all_told(mailer):
        name = f"notifier {chance.choice(PLUGINS)}"
        killed = mailer.children().get(name)
        if killed and sum(kills.values()) < KILLS:
            mailer.kill(killed)
            kills[name.partition(" ")[2]] += 1
        threading.Event().wait(chance.uniform(0, 2 * KILL_EVERY_S))
    repeats = 0
    for plugin in PLUGINS:
        places = [h.place for h in heard(mailer, plugin) if h.place >= first]
        assert set(places) == set(range(first, first + count))
        back = [old - new for old, new in pairwise(places) if new != old + 1]
        print(f"\n{plugin}: killed {kills[plugin]} times, {len(places) - count} repeats in {back}")
        assert len(back) <= kills[plugin]
        assert all(0 <= steps < EVENTS_A_COMMIT for steps in back)
        (counted,) = mailer.rows(
            "SELECT value FROM shelves WHERE plugin = ? AND key = 'count'", plugin
        )
        assert int(counted[0]) == len({h.id for h in heard(mailer, plugin)})
        repeats += len(places) - count
    assert repeats, "no kill came at a moment that matters"
    assert dead(mailer) == []
    before = resident_kib(mailer)
    feed(mailer, count)
    until(lambda: all_told(mailer), within_s=120)
    grown = {name: kib - before[name] for name, kib in resident_kib(mailer).items()}
    print(f"\nmemory grew by {grown} KiB over {count} events")
    assert max(grown.values()) < 4096
    mailer.end()


def feed(mailer: Mailer, count: int) -> None:
    """So many events, quicker than mail could make them."""
    with closing(mailer.store()) as store:
        for _ in range(count // FED_AT_ONCE):
            events = [ProviderEvent(EventType.OTHER, 0, "test", "", raw="x" * 500)] * FED_AT_ONCE
            with store.write():
                store.events.learn(events, now_ms=0)


def resident_kib(mailer: Mailer) -> dict[str, int]:
    """Resident memory of each notifier."""
    found = {}
    for name, pid in mailer.children().items():
        if name.startswith("notifier"):
            (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            found[name] = int(kib)
    return found

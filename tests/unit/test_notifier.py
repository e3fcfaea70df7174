"""How a notifier tells a plugin of events: on a real store, with a clock moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailer import notifier, plugins
from mailer.errors import PluginError, StoreUnavailable
from mailer.hookspecs import Event, hookimpl
from mailer.notifier import ENDED, EVENTS_A_COMMIT
from mailer.settings import load
from mailer.store.migrate import migrate
from mailer.vocabulary import EventType
from tests.store.world import World, event, people
from tests.unit.town import TRIES, Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    path = tmp_path / "mailer.db"
    migrate(path)
    world = World(path)
    yield Town(world)
    world.close()


def fails_at(culprit: str, error: BaseException) -> Callable[[Event], None]:
    def fail(event: Event) -> None:
        if event.id == culprit:
            raise error

    return fail


def test_every_event_is_told_once_and_in_order(town: Town) -> None:
    ids = town.happen(EVENTS_A_COMMIT * 3 + 7)
    town.go_on()
    assert town.plugin.heard == ids
    assert town.count == len(ids)
    more = town.happen(3)
    town.go_on()
    assert town.plugin.heard == ids + more


def test_a_new_plugin_begins_at_the_logs_end(town: Town) -> None:
    town.happen(5)
    with town.world.store.write():
        town.world.store.cursors.register([town.name, "new"])
    cursor = town.world.store.cursors.get("new")
    assert cursor.event == town.world.store.log.end()
    assert town.world.store.cursors.get(town.name).event < cursor.event


def test_an_event_tells_all_of_its_mail(town: Town) -> None:
    told: list[Event] = []
    town.plugin.does = told.append
    (mail,) = town.world.accept("ann@example.org", topic_id="news/a", tags={"kind": "test"})
    town.world.record(town.world.claim(), provider_id="p-1")
    raw = '{"a": 1}'
    town.world.learn(
        event(EventType.BOUNCE, provider_id="p-1", permanent=True, detail="no such user", raw=raw)
    )
    town.go_on()
    accepted, sent, bounce = told
    assert (accepted.type, accepted.mail_id, accepted.recipient) == ("accepted", None, None)
    assert {e.batch_id for e in told} == {mail.partition("-")[0]}
    assert {e.topic_id for e in told} == {"news/a"}
    for e in (sent, bounce):
        assert (e.mail_id, e.recipient, e.tags) == (mail, "ann@example.org", {"kind": "test"})
    assert (sent.type, sent.source) == ("sent", "post")
    assert (bounce.permanent, bounce.detail, bounce.raw) == (True, "no such user", raw)


def test_an_event_that_came_before_its_mail_was_known_is_told_when_it_is(town: Town) -> None:
    mail = town.world.accept_and_claim(topic_id="news")
    town.world.learn(event(EventType.OPEN, provider_id="p-9"))
    other = town.happen()
    town.go_on()
    assert town.plugin.heard[1:] == other
    told: list[Event] = []
    town.plugin.does = told.append
    town.world.record(mail, provider_id="p-9")
    town.go_on()
    assert [(e.type, e.mail_id) for e in told] == [
        ("sent", mail.request_id),
        ("open", mail.request_id),
    ]


ERRORS = [RuntimeError("x"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_one_that_raises_is_told_again_with_growing_waits_then_the_event_is_put_aside(
    town: Town, error: BaseException
) -> None:
    before, culprit, after = town.happen(3)
    town.plugin.does = fails_at(culprit, error)
    for wait_s in (1, 2):
        town.go_on()
        heard = len(town.plugin.heard)
        town.world.pass_s(wait_s - 0.1)
        town.go_on()
        assert len(town.plugin.heard) == heard
        town.world.pass_s(0.2)
    town.go_on()
    assert town.plugin.heard == [before, *[culprit] * TRIES, after]
    assert town.count == 2
    detail = f"{type(error).__name__}: {error}"
    assert town.dead == [(culprit, TRIES, detail)]
    assert town.world.store.cursors.get(town.name).failure is None


def test_among_many_that_share_a_commit_one_that_fails_undoes_no_other(town: Town) -> None:
    ids = town.happen(20)
    town.plugin.does = fails_at(ids[7], RuntimeError())
    town.go_on()
    assert town.count == 7
    town.plugin.does = lambda event: None
    town.world.pass_s(2)
    town.go_on()
    assert town.plugin.heard == [*ids[:8], *ids[7:]]
    assert town.count == 20


def test_an_event_that_ends_the_process_each_time_is_put_aside(town: Town) -> None:
    """The notifier does not live to tell: a new one finds what was noted."""
    _, culprit, *_ = ids = town.happen(5)
    town.plugin.does = fails_at(culprit, MemoryError())
    for _ in range(TRIES):
        with pytest.raises(MemoryError):
            town.go_on()
        town.restart()
    town.go_on()
    assert town.plugin.heard == [*ids[:2] * TRIES, ids[0], *ids[2:]]
    assert town.count == 4
    assert town.dead == [(culprit, TRIES, ENDED)]


def test_the_culprit_in_a_batch_is_known_and_the_others_of_it_are_told_again(town: Town) -> None:
    ids = town.happen(50)
    town.plugin.does = fails_at(ids[30], MemoryError())
    for _ in range(TRIES):
        with pytest.raises(MemoryError):
            town.go_on()
        town.restart()
    town.go_on()
    assert [culprit for culprit, *_ in town.dead] == [ids[30]]
    assert town.plugin.heard == [*ids[:31] * TRIES, *ids[:30], *ids[31:]]
    assert town.count == 49


def test_a_process_that_is_ended_once_is_not_held_against_the_event(town: Town) -> None:
    ids = town.happen(5)
    for event_id in ids:
        town.plugin.does = fails_at(event_id, MemoryError())
        with pytest.raises(MemoryError):
            town.go_on()
        town.restart()
    town.plugin.does = lambda event: None
    town.go_on()
    assert town.dead == []
    assert town.count == 5


def test_of_two_processes_of_one_plugin_the_late_one_moves_nothing(town: Town) -> None:
    ids = town.happen(3)
    late = town.notifier

    def overtaken(event: Event) -> None:
        town.plugin.does = lambda event: None
        town.restart()
        town.go_on()

    town.plugin.does = overtaken
    late.step()
    assert town.plugin.heard == [ids[0], *ids]
    assert town.count == 3
    assert town.world.store.cursors.get(town.name).event == town.world.store.log.end()
    town.notifier = late
    town.go_on()
    assert town.count == 3


def test_while_the_store_can_not_be_written_nothing_is_told_twice(town: Town) -> None:
    ids = town.happen(5)
    holder = town.world.twin()
    town.notifier._store._db._lock_timeout_s = 0.01
    with holder.write():
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                town.notifier.step()
    town.go_on()
    assert town.plugin.heard == ids
    assert town.count == 5


def test_a_dead_letter_is_told_once_more_when_asked_and_gone_when_that_went_well(
    town: Town,
) -> None:
    first, second, third = town.happen(3)
    town.plugin.does = lambda event: fails_at(event.id, RuntimeError("no"))(event)
    town.go_on_long()
    assert [culprit for culprit, *_ in town.dead] == [first, second, third]
    town.plugin.heard.clear()
    town.plugin.does = fails_at(first, RuntimeError("still"))
    with town.world.store.write():
        assert town.world.store.cursors.retry(town.name) == 3
    town.go_on()
    assert town.plugin.heard == [first, second, third]
    assert town.dead == [(first, TRIES + 1, "RuntimeError: still")]
    assert town.count == 2


def test_a_dead_letter_that_ends_the_process_is_not_told_again_and_again(town: Town) -> None:
    (culprit,) = town.happen()
    town.plugin.does = fails_at(culprit, RuntimeError())
    town.go_on_long()
    town.plugin.does = fails_at(culprit, MemoryError())
    with town.world.store.write():
        town.world.store.cursors.retry(town.name)
    with pytest.raises(MemoryError):
        town.go_on()
    town.new_process()
    town.go_on_long()
    assert town.plugin.heard == [culprit] * (TRIES + 1)
    assert town.dead == [(culprit, TRIES + 1, ENDED)]


def test_a_clock_that_is_set_back_makes_nobody_wait_for_it(town: Town) -> None:
    (culprit,) = town.happen()
    town.plugin.does = fails_at(culprit, RuntimeError())
    town.go_on()
    town.world.now_ms -= 24 * 3600 * 1000
    town.go_on()
    assert town.plugin.heard == [culprit] * 2


def test_a_plugin_that_takes_no_events_is_named() -> None:
    with pytest.raises(PluginError, match="no plugin smtp takes events"):
        notifier.main(load({}), "smtp")


def test_a_plugin_may_take_the_event_alone(town: Town) -> None:
    class Short:
        heard: list[str] = []  # noqa: RUF012

        @hookimpl
        def mailer_event(self, event: Event) -> None:
            self.heard.append(event.id)

    hook = plugins.event_hooks(plugins.load({"short": Short()}))["short"]
    ids = town.happen(2)
    told = town.world.store.log.page(0, limit=1000).events[-2:]
    for e in told:
        hook(event=e, shelf=town.world.store.shelf("short"))
    assert Short.heard == ids


def test_a_batch_is_accepted_in_one_event_whatever_its_size(town: Town) -> None:
    town.world.accept(*people(8))
    town.go_on()
    assert len(town.plugin.heard) == 1

"""Providers are asked for their limits by the supervisor: in the background, again and again."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailer.duties import Quotas
from mailer.errors import TransportHalted
from mailer.hookspecs import Quota, Session
from mailer.store.migrate import migrate
from mailer.store.transports import TransportState
from mailer.vocabulary import Condition
from tests.store.world import World
from tests.waiting import until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    migrate(tmp_path / "mailer.db")
    world = World(tmp_path / "mailer.db")
    yield world
    world.close()


@dataclass
class Provider:
    """Tells its limits when it is let."""

    answer: Callable[[], Quota]
    batch_size: int = 1
    max_in_flight: int = 1
    call_timeout_s: float = 1.0
    reports_events: bool = False
    destination: str = "nowhere"
    may_answer: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def open(self) -> Session:
        raise NotImplementedError

    def quota(self) -> Quota:
        self.asked += 1
        self.may_answer.wait()
        return self.answer()


def test_quotas_are_asked_in_the_background_and_kept_when_they_come(world: World) -> None:
    provider = Provider(lambda: Quota(14.0, 200, 3))
    with world.store.write():
        world.store.transports.register("post", reports_events=False)
    quotas = Quotas({"post": provider})
    quotas.ask()
    quotas.ask()
    quotas.keep(world.store, world.now_ms)
    assert world.store.transports.left_today("post", world.now_ms) == (None, None)
    provider.may_answer.set()

    def kept() -> bool:
        quotas.keep(world.store, world.now_ms)
        return world.store.transports.left_today("post", world.now_ms) == (197, 200)

    until(kept)
    assert provider.asked == 1


def test_a_provider_that_does_not_tell_its_limits_is_asked_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> Quota:
        raise OSError("no route to it")

    provider = Provider(refuse)
    provider.may_answer.set()
    quotas = Quotas({"post": provider})

    def asked_again() -> bool:
        quotas.keep(world.store, world.now_ms)
        quotas.ask()
        return provider.asked == 2

    until(asked_again)
    assert "post did not tell its limits: no route to it" in caplog.text


def test_a_provider_that_tells_of_a_halt_is_halted_until_it_answers(world: World) -> None:
    answers: list[Exception | Quota] = [TransportHalted("sending is paused"), Quota(notice="new")]

    def tell() -> Quota:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def state() -> TransportState:
        found = world.store.transports.get("post")
        assert found is not None
        return found

    with world.store.write():
        world.store.transports.register("post", reports_events=False)
    provider = Provider(tell)
    provider.may_answer.set()
    quotas = Quotas({"post": provider})

    def told(condition: Condition) -> bool:
        quotas.keep(world.store, world.now_ms)
        return state().condition(world.now_us) is condition

    quotas.ask()
    until(lambda: told(Condition.HALTED))
    assert (state().blocked_reason, state().halted_at_ms) == ("sending is paused", world.now_ms)
    quotas.ask()
    until(lambda: told(Condition.WORKING))
    assert (state().halted_at_ms, state().notice) == (None, "new")


def test_a_process_ends_while_a_provider_keeps_it_waiting() -> None:
    program = """
import threading
from mailer.duties import Quotas
class Silent:
    def quota(self):
        threading.Event().wait()
Quotas({"silent": Silent()}).ask()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)

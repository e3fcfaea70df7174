"""LIMITS in the store: queues of limited domains, what windows have held, reboots and clocks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from mailer.limits import parse_limits
from mailer.pacing import TOLERANCE_US
from mailer.store.slots import UsedSlot
from mailer.vocabulary import Lane
from tests.store.world import RULES, World, ask

HOUR_S = 3600
WAY = "post@x.org"


def restart(world: World, limits: str) -> None:
    """As all processes do when LIMITS has changed."""
    world.rules = replace(RULES, limits=parse_limits(limits))
    world.store = world.twin()
    begin(world, new_boot=False)


def begin(world: World, *, new_boot: bool, wall_ms: int | None = None) -> None:
    with world.store.write():
        world.store.windows.begin(
            new_boot=new_boot,
            wall_ms=world.now_ms if wall_ms is None else wall_ms,
            mono_us=world.now_us,
        )


def held(world: World, way: str = "post", window_s: int = HOUR_S) -> int:
    """What a window that ends now has held."""
    now_us = world.store.windows.now_us(world.now_us)
    return sum(world.store.windows.counts(way, window_s, now_us).values())


def depths(world: World) -> dict[str, int]:
    mails: Counter[str] = Counter()
    for depth in world.store.status.depths():
        mails[depth.queue] += depth.mails
    return dict(+mails)


def test_mail_to_a_limited_domain_waits_apart_under_its_transports_name(world: World) -> None:
    restart(world, f"{WAY}=20/s; other@y.org=1/h")
    ids = world.accept("a@x.org", "b@y.org", "c@sub.x.org", "d@z.org", "e@x.org")
    assert depths(world) == {"post@x.org": 2, "post@y.org": 1, "post": 2}
    assert world.store.queue.names() == ["post", "post@x.org", "post@y.org"]
    assert {world.mail(request_id).transport for request_id in ids} == {"post"}
    assert world.claim_ids() == [ids[2], ids[3]]
    assert world.claim_ids(queues=("post@x.org",), domain_way=WAY) == [ids[0], ids[4]]


def test_mail_accepted_before_its_domain_had_a_limit_is_put_apart_at_its_turn(
    world: World,
) -> None:
    ids = world.accept("a@x.org", "b@y.org", "c@x.org")
    urgent = world.accept("d@x.org", lane=Lane.INTERACTIVE)
    late = world.accept("e@x.org", due_in_s=60)
    restart(world, f"{WAY}=20/s")
    with world.store.write():
        claim = world.store.queue.claim(ask(calls=2), now_ms=world.now_ms, now_us=world.now_us)
    assert [m.request_id for lease in claim.leases for m in lease.mails] == [ids[1]]
    assert claim.moved_aside == 3
    assert depths(world) == {"post@x.org": 3, "post": 2}
    assert world.claim_ids(queues=("post@x.org",)) == [*urgent, ids[0], ids[2]]
    world.pass_s(61)
    assert world.claim_ids() == []
    assert world.claim_ids(queues=("post@x.org",)) == late


def test_what_is_granted_counts_and_what_is_not_used_is_given_back(world: World) -> None:
    restart(world, f"post=100/h; {WAY}=10/h, 50/day")
    sender = world.new_sender()
    world.accept("a@x.org", "b@x.org", "c@y.org", "d@x.org")
    to_domain = world.claim_leases(sender=sender, queues=("post@x.org",), domain_way=WAY)
    others = world.claim_leases(sender=sender)
    assert (held(world), held(world, WAY), held(world, WAY, 24 * HOUR_S)) == (4, 3, 3)
    assert len({lease.slot_id for lease in to_domain + others} - {0}) == 4
    first, second, _ = (lease.slot_id for lease in to_domain)
    with world.store.write():
        world.store.slots.used([UsedSlot(first, world.now_us, 1), UsedSlot(second, 0, 0)])
    assert (held(world), held(world, WAY), held(world, WAY, 24 * HOUR_S)) == (3, 2, 2)
    world.pass_s(1)
    world.accept("e@x.org")
    (last,) = world.claim_leases(sender=sender, queues=("post@x.org",), domain_way=WAY)
    with world.store.write():  # it died after the last slot had begun: who knows what was used
        world.store.slots.give_back(sender, last.slot.at_us)
    assert (held(world), held(world, WAY)) == (4, 3)
    with world.store.write():  # before it
        world.store.slots.give_back(sender, last.slot.at_us - 1)
    assert (held(world), held(world, WAY)) == (3, 2)


def test_a_slot_counts_until_its_latest_use_and_once_used_from_that(world: World) -> None:
    restart(world, "post=10/10s")
    world.accept("a@x.org", "b@x.org")
    leases = world.claim_leases()
    used = UsedSlot(leases[0].slot_id, world.now_us, 1)
    with world.store.write():
        world.store.slots.used([used])
    world.pass_s(10.12)
    assert held(world, window_s=10) == 1
    world.pass_s(TOLERANCE_US / 1_000_000)
    assert held(world, window_s=10) == 0


def test_where_nothing_is_limited_nothing_is_kept(world: World) -> None:
    restart(world, f"{WAY}=10/h")
    world.accept("c@y.org")
    (lease,) = world.claim_leases()
    assert lease.slot_id == 0
    assert not world.store.slots.to_forget(world.now_us + 10**9)


def test_what_a_limit_never_counted_is_not_given_back_to_it(world: World) -> None:
    restart(world, "post=10/h")
    sender = world.new_sender()
    world.accept("a@x.org", "b@x.org")
    first, _ = world.claim_leases(sender=sender)
    restart(world, "post=10/h, 5/min")
    with world.store.write():
        world.store.slots.give_back(sender, first.slot.at_us - 1)
    world.accept("c@x.org")
    world.claim(sender=sender)
    assert (held(world), held(world, window_s=60)) == (1, 1)


@pytest.mark.parametrize("jump_s", [-86400, -1, 0, 1, 86400])
def test_a_jump_of_the_wall_clock_changes_nothing(world: World, jump_s: int) -> None:
    restart(world, "post=10/h")
    world.accept("a@x.org")
    world.claim()
    world.now_ms += jump_s * 1000
    restart(world, "post=10/h")
    world.pass_s(HOUR_S - 1)
    assert held(world) == 1
    world.pass_s(HOUR_S / 100 + 2)
    assert held(world) == 0


@pytest.mark.parametrize(
    ("off_s", "told_s", "free_after_s"),
    [
        (60, 60, HOUR_S - 60),
        (2 * HOUR_S, 2 * HOUR_S, 0),
        (60, -10 * HOUR_S, HOUR_S),  # the wall clock is behind: as if it had just gone off
    ],
)
def test_windows_outlast_a_reboot(world: World, off_s: int, told_s: int, free_after_s: int) -> None:
    restart(world, "post=10/h")
    world.pass_s(5)
    world.accept("a@x.org")
    world.claim()
    world.now_ms += told_s * 1000
    world.now_us = 20_000_000
    begin(world, new_boot=True)
    assert held(world) == (1 if free_after_s else 0)
    world.pass_s(max(0, free_after_s - HOUR_S / 100))
    assert held(world) == (1 if free_after_s else 0)
    world.pass_s(HOUR_S / 100 * 3)
    assert held(world) == 0
    assert off_s


def test_what_no_window_counts_is_forgotten(world: World) -> None:
    restart(world, "post=10/h, 10/min")
    world.accept("a@x.org", "b@x.org")
    world.claim(calls=1)
    world.pass_s(10 * HOUR_S)
    world.claim(calls=1)
    with world.store.write():
        world.store.windows.forget(world.store.windows.now_us(world.now_us))
    assert (held(world), held(world, window_s=60)) == (1, 1)
    world.now_us -= 10 * HOUR_S * 1_000_000
    assert held(world) == 1

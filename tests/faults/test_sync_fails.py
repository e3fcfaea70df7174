"""A disk whose fsync fails is told to clients as 503, and never taken for success."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mailer.store.migrate import migrate
from tests.faults.fault import Shim, ext4
from tests.faults.load import Load, assert_told_to_come_back, integrity, stored, uncertain_once
from tests.faults.mailer_run import MailerRun, recipients
from tests.smtp_sink import SmtpSink
from tests.waiting import until

FAILS_FOR_S = 5.0
BACK_WITHIN_S = 5.0


def test_no_answer_promises_what_was_not_synced(
    tmp_path: Path, sink: SmtpSink, start: Callable[..., MailerRun]
) -> None:
    shim = Shim(tmp_path)
    database = tmp_path / "mailer.db"
    run = start(database, **shim.environ).serving()
    with Load(run, pause_s=0.005) as load:
        load.wait_for(50)
        shim.on()
        load.wait_for_refused(20)  # no earlier answer is on its way any more
        before = len(load.accepted)
        threading.Event().wait(FAILS_FOR_S)
        assert len(load.accepted) == before
        shim.off()
        until(lambda: len(load.accepted) > before + 50, within_s=BACK_WITHIN_S)
    assert_told_to_come_back(list(load.refused.values()))
    mails = stored(database)
    assert load.accepted.items() <= mails.items()
    assert not load.refused.keys() & mails.keys()
    until(lambda: set(recipients(sink)) == set(mails), within_s=30)
    assert run.terminate() == 0
    assert integrity(database) == "ok"
    twice = {recipient for recipient, copies in Counter(recipients(sink)).items() if copies > 1}
    assert twice <= uncertain_once(database)


@pytest.mark.parametrize("told", [True, False])
def test_only_what_was_synced_is_found_after_a_power_cut(
    tmp_path: Path, start: Callable[..., MailerRun], told: bool
) -> None:
    """The control is the failure that nobody is told of: then what was promised is lost."""
    shim = Shim(tmp_path)
    with ext4(tmp_path) as disk:
        database = disk.path / "mailer.db"
        migrate(database)
        run = start(database, "serve", **shim.environ).serving()
        with Load(run) as load:
            load.wait_for(50)
            shim.on(told=told)
            if told:
                load.wait_for_refused(50)
            else:
                load.wait_for(len(load.accepted) + 50)
            promised = dict(load.accepted)
            disk.cut_power()
            run.kill()
        disk.power_up()
        assert (promised.items() <= stored(database).items()) is told

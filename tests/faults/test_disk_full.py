"""A full disk: refused plainly, nothing half stored, what is out is on record, all comes back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from html import unescape
from pathlib import Path

import pytest

from tests.faults.fault import Filler, tmpfs
from tests.faults.load import (
    Load,
    assert_told_to_come_back,
    integrity,
    query,
    reading,
    stored,
    uncertain_once,
)
from tests.faults.mailer_run import MailerRun, recipients
from tests.messages import parse
from tests.smtp_sink import Script, SmtpSink
from tests.waiting import until

BACK_WITHIN_S = 10.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path, 16) as path:
        yield path


def test_all_comes_back_when_there_is_room_again(
    disk: Path, sink: SmtpSink, start: Callable[..., MailerRun]
) -> None:
    database, filler = disk / "mailer.db", Filler(disk)
    run = start(database).serving()
    with Load(run, clients=2, pause_s=0.01, content="<p>Hello</p>" * 100) as load:
        for _ in range(3):
            load.wait_for(len(load.accepted) + 50)
            filler.fill()
            load.wait_for_refused(len(load.refused) + 100)
            open_pixel(run, sink)
            assert run.get("/health").status == 200
            accepted, arrived = len(load.accepted), len(sink.mails)
            filler.clear()
            load.wait_for(accepted + 1, within_s=BACK_WITHIN_S)
            wait_for_mails(sink, arrived + 1)
    assert_told_to_come_back(list(load.refused.values()))
    details = {answer.json["detail"] for answer in load.refused.values()}
    assert "the disk is nearly full; nothing of this request was stored" in details
    mails = stored(database)
    assert mails == load.accepted
    until(lambda: set(recipients(sink)) == set(mails), within_s=BACK_WITHIN_S)
    assert run.terminate() == 0
    assert integrity(database) == "ok"
    assert Counter(recipients(sink)) == Counter(mails.keys())
    assert not uncertain_once(database)


@pytest.mark.parametrize("reserve", [True, False])
def test_what_was_handed_over_is_on_record_though_the_disk_is_full(
    disk: Path, sink: SmtpSink, start: Callable[..., MailerRun], reserve: bool
) -> None:
    """Without the reserve it can't be: the control."""
    database, kept, filler = disk / "mailer.db", disk / "mailer.db-reserve", Filler(disk)
    sink.script = Script(delay_s=0.5)  # mail is in flight when the disk fills
    run = start(database).serving()
    emails = [f"n{n}@example.com" for n in range(1_000)]
    message = {"emails": emails, "subject": "Full", "content": "<p>Hello"}
    # Checkpoints would let the WAL begin anew instead of growing: a reader holds them back. And the
    # API is quiet: what it could not store might leave room in the WAL that outcomes fit in.
    assert run.post({"messages": [message]}).status == 200
    with reading(database):
        wal = disk / "mailer.db-wal"
        length = wal.stat().st_size
        wait_for_mails(sink, 20)
        # If the reader needs nothing of it, the WAL begins anew, with its old length to fill.
        until(lambda: wal.stat().st_size > length, within_s=30)
        if not reserve:  # and the supervisor can't make it anew
            kept.unlink()
            kept.mkdir()
        filler.fill()
        wait_for_mails(sink, len(sink.mails) + 1)
        out = set(recipients(sink))
        with nullcontext() if reserve else pytest.raises(AssertionError, match="not within"):
            until(lambda: out <= sent(database), within_s=3)
        assert ("gave up the reserve" in run.log) is reserve
        assert run.post({"messages": [message]}).status == 503
    sink.script = Script()
    filler.clear()
    if not reserve:
        kept.rmdir()
    until(lambda: sent(database) == set(emails), within_s=20)
    assert run.terminate() == 0
    assert Counter(recipients(sink)) == Counter(emails)


def test_status_says_that_the_disk_is_full(
    disk: Path, sink: SmtpSink, start: Callable[..., MailerRun]
) -> None:
    run = start(disk / "mailer.db").serving()
    Filler(disk).fill()
    told = run.mailer("status")
    assert told.returncode == 0, told.stderr
    assert "disk      nearly full: new mail is refused" in told.stdout
    assert run.json("status")["disk"]["nearly_full"] is True


def sent(database: Path) -> set[str]:
    """Recipients of the mails that are on record as handed over."""
    return {name for (name,) in query(database, "SELECT recipient FROM mails WHERE state = 'sent'")}


def wait_for_mails(sink: SmtpSink, number: int) -> None:
    until(lambda: len(sink.mails) >= number, within_s=BACK_WITHIN_S)


def open_pixel(run: MailerRun, sink: SmtpSink) -> None:
    """What a mail program does that shows a mail."""
    html = parse(sink.mails[-1].message).get_body(("html",))
    assert html is not None
    url = re.findall(r'src="([^"]*events/open[^"]*)"', html.get_content())[0]
    path = unescape(url).partition(f":{run.port}")[2]
    assert run.get(path).status == 200

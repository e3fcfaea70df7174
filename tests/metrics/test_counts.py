"""What `/metrics` counts is what was sent: over all processes, whatever is killed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from mailer.vocabulary import EventType
from tests.metrics.scrape import ALL_NAMES, Scrape, promtool, scrape
from tests.process.harness import CLOCK, Mailer, addresses
from tests.store.world import START_MS, event
from tests.waiting import until

Start = Callable[..., Mailer]

REQUESTS = 20
WORKERS = 2


def all_told(mailer: Mailer, requests: int) -> Scrape:
    """Once everything that was measured is written down; the same whichever worker is asked."""
    until(lambda: scrape(mailer)["mailer_accept_seconds_count"] == requests)
    until(lambda: scrape(mailer)["mailer_attempts_total"] == len(mailer.hand_overs()))
    return scrape(mailer)


def accept_and_send(mailer: Mailer) -> int:
    """How many mails: each request brings two of bulk and one interactive."""
    for _ in range(REQUESTS):
        mailer.accepted(*addresses(2))
        mailer.accepted("one@example.com")
    until(mailer.finished)
    return 3 * REQUESTS


def test_counts_are_exact_over_processes_and_kills(start: Start) -> None:
    mailer = start(API_WORKERS=str(WORKERS), SENDERS="2", MAX_SEND_PER_SECOND="unlimited")
    mails = accept_and_send(mailer)
    seen = all_told(mailer, 2 * REQUESTS)

    assert seen["mailer_accepted_mails_total"] == mails
    assert seen.sum("mailer_accepted_mails_total", lane="bulk") == 2 * REQUESTS
    assert seen.sum("mailer_mails_total", queue="recorder", state="sent") == mails
    assert seen.sum("mailer_attempts_total", transport="recorder", outcome="accepted") == mails
    assert seen["mailer_due_to_handover_seconds_count"] == mails
    assert seen.sum("mailer_due_to_handover_seconds_count", lane="interactive") == REQUESTS
    assert seen.sum("mailer_due_to_handover_seconds_bucket", le="60.0") == mails
    assert 0 < seen["mailer_due_to_handover_seconds_sum"] < 60 * mails
    assert seen["mailer_provider_call_seconds_count"] == mails  # it takes one in a call
    assert 0 < seen["mailer_accept_seconds_sum"] < 10 * REQUESTS
    assert seen["mailer_queue_mails"] == seen["mailer_oldest_due_age_seconds"] == 0
    assert seen.sum("mailer_process_starts_total", process="api worker") == WORKERS
    assert seen["mailer_senders"] == 2

    for pid in (mailer.process.pid, *mailer.children().values(), *mailer.workers()):
        mailer.kill(pid)
    mailer.start_anew()
    until(lambda: mailer._answers(mailer.process), within_s=30)
    again = scrape(mailer)
    fallen = {
        series
        for series, value in seen.values.items()
        if series[0].endswith(("_total", "_count", "_bucket", "_sum"))
        if again.values.get(series, 0) < value
    }
    assert fallen == set()
    assert again["mailer_accepted_mails_total"] == mails
    assert again.sum("mailer_mails_total", state="sent") == mails

    mails += accept_and_send(mailer)
    seen = all_told(mailer, 4 * REQUESTS)
    assert seen["mailer_accepted_mails_total"] == mails
    assert seen.sum("mailer_mails_total", state="sent") == mails
    assert seen.sum("mailer_process_starts_total", process="supervisor") == 2
    assert seen.sum("mailer_process_starts_total", process="sender 1") == 2
    assert seen.sum("mailer_process_starts_total", process="api worker") == 2 * WORKERS
    mailer.assert_sound()


def test_what_waits_what_goes_wrong_and_what_is_refused(start: Start) -> None:
    """Everything that is in the list can be seen."""
    mailer = start(
        SENDERS="1", MAX_SEND_PER_SECOND="5", UNCERTAIN_GRACE_S="600", behaviour={"delay_ms": 20}
    )
    with closing(mailer.store()) as store, store.write():
        store.transports.register("recorder", reports_events=True)
    lost = mailer.accepted("exit@example.com")
    until(lambda: mailer.states().get("uncertain") == 1)
    waiting = mailer.accepted(*addresses(50))
    refused = mailer.post("/v1/messages", {"messages": []})
    assert refused.status == 422
    until(lambda: len(mailer.hand_overs()) > 10)
    until(lambda: scrape(mailer).sum("mailer_refusals_total", status="422") == 1)
    seen = scrape(mailer)
    assert 0 < seen.sum("mailer_queue_mails", lane="bulk") < len(waiting)
    assert 0 < seen.sum("mailer_oldest_due_age_seconds", lane="bulk") < 60
    assert seen["mailer_uncertain_mails"] == 1
    assert seen.sum("mailer_attempts_total", outcome="unknown") == 1
    assert seen.sum("mailer_rate_limit_per_second", transport="recorder") == 5
    assert 0 < seen.sum("mailer_rate_used_per_second", transport="recorder") <= 10
    assert seen["mailer_limiter_wait_seconds_count"] > 0
    assert seen.sum("mailer_process_starts_total", process="sender 0") == 2
    assert seen.names <= ALL_NAMES

    assert mailer.spawn("backup", str(mailer.directory / "copy.db")).wait() == 0
    age_s = CLOCK.wall_ms() / 1000 - scrape(mailer)["mailer_last_backup_timestamp_seconds"]
    assert 0 <= age_s < 60
    linted = promtool("check", "metrics", stdin=mailer.get("/metrics").body.decode())
    assert linted.returncode == 0, linted.stdout + linted.stderr

    told = event(EventType.DELIVERY, request_id=lost[0], source_event_id="1")
    with closing(mailer.store()) as store, store.write():
        store.events.learn([told], now_ms=START_MS + 2_000)
    seen = scrape(mailer)
    assert seen.sum("mailer_events_total", source="provider", type="delivery") == 1
    assert seen.sum("mailer_event_lag_seconds_bucket", le="2.5") == 1
    assert seen.sum("mailer_event_lag_seconds_bucket", le="1.0") == 0
    assert seen.sum("mailer_mails_total", state="delivered") == 1

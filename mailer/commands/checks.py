"""What `mailer doctor` looks at on this machine: database, disk, clock, processes, mail.

Each check only looks. It yields its lines, or raises a MailerError or OSError, told as one more.
"""

from __future__ import annotations

import ctypes
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mailer.api import times
from mailer.clock import Clock
from mailer.commands import ways_out
from mailer.commands.database import open_store
from mailer.hookspecs import Check
from mailer.sender_process import process_started
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.housekeeping import WAL_LIMIT_BYTES, supervisor_of
from mailer.store.library import has_wal_reset_bug, sqlite_version
from mailer.store.place import MOUNTS, NETWORK_FILE_SYSTEMS, mount_of
from mailer.vocabulary import CheckResult, Condition

OK: Final = CheckResult.OK
WARNING: Final = CheckResult.WARNING
FAILURE: Final = CheckResult.FAILURE

LATE_MS: Final = 300_000
"""Mail that waits its turn for so long is behind; at a steady rate it is milliseconds."""
HOUR_MS: Final = 3_600_000
FREE_BYTES: Final = 1_000_000_000
UNSYNCHRONISED: Final = 5
"""TIME_ERROR of adjtimex(2)."""


def local(settings: Settings, clock: Clock) -> Iterator[Check]:
    """All of them that need no network."""
    yield file_system(settings.database_path.absolute(), MOUNTS.read_text())
    yield _sqlite()
    store = open_store(settings)
    try:
        yield Check("database", OK, f"{store.path}, schema up to date")
        yield _journal(store)
        yield _modes(store.path)
        yield _disk(store)
        yield _clock(store, clock)
        yield from _hold(store)
        yield from _processes(store, settings)
        yield _queue(store, clock)
        yield from _transports(store, settings, clock)
        yield from _events(store, settings, clock)
    finally:
        store.close()


def file_system(database: Path, mounts: str) -> Check:
    """Whether the mount that a path lies on is a local one."""
    place, kind = mount_of(database, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        advice = "move the database to a local disk: SQLite's locks do not hold there"
        return Check("file system", FAILURE, f"{place} is a network file system ({kind})", advice)
    return Check("file system", OK, f"{place} is local ({kind})")


def _sqlite() -> Check:
    version = ".".join(map(str, sqlite_version()))
    if has_wal_reset_bug(sqlite_version()):
        advice = (
            "let no other program write to the database; `pip install pysqlite3`, where there is a"
            " wheel, brings a mended library"
        )
        return Check("SQLite", WARNING, f"{version} has the WAL-reset bug", advice)
    return Check("SQLite", OK, version)


def _journal(store: Store) -> Check:
    mode, wal_bytes = store.status.journal_mode(), store.housekeeping.wal_bytes
    if mode != "wal":
        advice = "another program has switched it; stop mailer, and let `sqlite3` switch it back"
        return Check("journal", FAILURE, f"its mode is {mode}, not wal", advice)
    if wal_bytes > 2 * WAL_LIMIT_BYTES:
        advice = "start the supervisor, which copies it back; end programs that read for long"
        return Check("journal", WARNING, f"the -wal file has {wal_bytes:,} bytes", advice)
    return Check("journal", OK, f"wal, every commit synced; {wal_bytes:,} bytes to copy back")


def _modes(database: Path) -> Check:
    parts = sorted(database.parent.glob(f"{database.name}*"))
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in parts}
    others = [f"{path.name} ({mode:03o})" for path, mode in modes.items() if mode & 0o077]
    if others:
        advice = f"chmod go= {database}*"
        return Check("file modes", WARNING, f"open to others: {', '.join(others)}", advice)
    if database.parent.stat().st_mode & stat.S_IWOTH:
        advice = f"chmod o-w {database.parent}"
        return Check("file modes", WARNING, f"everyone can write to {database.parent}", advice)
    return Check("file modes", OK, "for their owner alone")


def _disk(store: Store) -> Check:
    free_bytes = store.housekeeping.free_bytes()
    free = f"{free_bytes / 1e9:.1f} GB free"
    advice = "make room, or move the database to a larger disk"
    if store.housekeeping.nearly_full():
        return Check("disk", FAILURE, f"{free}: new mail is refused", advice)
    if not store.housekeeping.has_reserve():
        return Check("disk", WARNING, f"{free}, no reserve", "the supervisor makes it: start it")
    if free_bytes < FREE_BYTES:
        return Check("disk", WARNING, free, advice)
    return Check("disk", OK, f"{free}, and the reserve is there")


def _clock(store: Store, clock: Clock) -> Check:
    ahead_ms = (store.status.accepted_last_ms() or 0) - clock.wall_ms()
    if ahead_ms > 1_000:
        finding = f"mail was accepted {ahead_ms / 1000:,.0f} s from now: the clock was set back"
        return Check("clock", WARNING, finding, "put it right: mail is due by the clock")
    # With a first field of 0 it only reads; the structure is smaller than this everywhere.
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))
    if state == UNSYNCHRONISED:
        advice = "run an NTP client, as `systemctl enable --now systemd-timesyncd`"
        return Check("clock", WARNING, "the kernel's clock is not synchronised", advice)
    return Check("clock", OK, "synchronised" if state >= 0 else "whether it is set is not known")


def _hold(store: Store) -> Iterator[Check]:
    held = store.hold.get()
    if held is not None:
        finding = f"restored from a back-up at {times.written(held.since_ms)}: nothing is sent"
        yield Check("hold", FAILURE, finding, "look at what it holds, then `mailer release`")


def _processes(store: Store, settings: Settings) -> Iterator[Check]:
    pid = supervisor_of(store.path)
    if pid is None:
        advice = "start `mailer supervise`: until then no mail leaves"
        yield Check("supervisor", FAILURE, "none works on this database", advice)
        return
    yield Check("supervisor", OK, f"process {pid}")
    senders = store.senders.all()
    alive = [s for s in senders if process_started(s.pid) == s.pid_started]
    finding = f"{len(alive)} of {settings.senders} alive"
    if len(alive) < settings.senders:
        yield Check("senders", WARNING, finding, "see the supervisor's log for why they end")
    else:
        yield Check("senders", OK, finding)


def _queue(store: Store, clock: Clock) -> Check:
    waiting = sum(depth.mails for depth in store.status.depths())
    now_ms = clock.wall_ms()
    behind_ms = max(0, now_ms - (store.status.oldest_due_at_ms(now_ms) or now_ms))
    finding = f"{waiting:,} mails unfinished, the oldest due {behind_ms / 1000:,.0f} s ago"
    if behind_ms > LATE_MS:
        advice = "see the lines around for why; else more was accepted than the rate lets out"
        return Check("queue", WARNING, finding, advice)
    return Check("queue", OK, finding if behind_ms else f"{waiting:,} mails unfinished, none late")


def _transports(store: Store, settings: Settings, clock: Clock) -> Iterator[Check]:
    for transport in ways_out.transports(store, settings, clock):
        halted = transport["condition"] is Condition.HALTED
        for finding in ways_out.obstacles(transport):
            advice = "mail waits meanwhile and none is lost; it goes on by itself"
            yield Check("transport", FAILURE if halted else WARNING, finding, advice)
    for limit in ways_out.limits(store, settings, clock):
        late = limit["waiting"] and limit["bulk_waits_until"]
        advice = "a limit of LIMITS keeps it back; raise that and restart if it is to go sooner"
        line = ways_out.limit_line(limit)
        yield Check("limit", WARNING, line, advice) if late else Check("limit", OK, line)
    for asked in ways_out.approvals(store, settings, clock):
        finding = f"{asked['value']} asks to be believed, last at {asked['asked_at']}"
        yield Check(
            "approval", WARNING, finding, f"if it is yours, set {asked['line']} and restart"
        )


def _events(store: Store, settings: Settings, clock: Clock) -> Iterator[Check]:
    state = store.transports.get(settings.transport_name)
    if state is None or not state.reports_events:
        return
    now_ms, last_ms = clock.wall_ms(), store.status.told_last_ms()
    ago = "never" if last_ms is None else f"{max(0, now_ms - last_ms) / 1000:,.0f} s ago"
    sent = store.transports.sent_since((now_ms - HOUR_MS) // 60_000, state.transport)
    if sent and (last_ms is None or last_ms < now_ms - HOUR_MS):
        finding = f"{sent:,} mails were handed over in the last hour; the last event came {ago}"
        advice = "see the provider's lines below: what became of mail is not known"
        yield Check("events", WARNING, finding, advice)
    else:
        yield Check("events", OK, f"the last one came {ago}")

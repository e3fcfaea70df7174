"""One of the peers' queues at work, in the environment that has it: `peers` runs this.

    peer_queues.py NAME DIRECTORY SECONDS

Two processes store mails for so many seconds, a commit each; then two take them and finish them
(django-post_office: one, as it asks for), which costs nothing but the queue's own work. WAL and
synchronous=FULL throughout, as mailer has it.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HTML = "<p>Hello, this is the news.</p>" * 10
Step = Callable[[], Any]
"""One mail stored, or one taken and finished; something false when none is left."""
Work = Callable[[str, Path, float], tuple[int, float]]


def huey(directory: Path) -> tuple[Step, Step]:
    from huey import SqliteHuey

    queue = SqliteHuey(filename=str(directory / "huey.db"), fsync=True, results=False)

    def send(recipient: str, html: str) -> None:
        """The null transport."""

    task = queue.task()(send)

    def finish() -> bool:
        found = queue.dequeue()
        if found is None:
            return False
        queue.execute(found)
        return True

    return lambda: task("ann@example.org", HTML), finish


def litequeue(directory: Path) -> tuple[Step, Step]:
    from litequeue import LiteQueue

    queue = LiteQueue(str(directory / "litequeue.db"))
    queue.conn.execute("PRAGMA synchronous = FULL")
    queue.conn.execute("PRAGMA busy_timeout = 60000")
    mail = json.dumps({"recipient": "ann@example.org", "html": HTML})

    def finish() -> bool:
        message = queue.pop()
        if message is None:
            return False
        queue.done(message.message_id)
        return True

    return lambda: queue.put(mail), finish


def post_office(directory: Path) -> tuple[Step, Step]:
    import django
    from django.conf import settings

    pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL"
    options = {"init_command": pragmas, "transaction_mode": "IMMEDIATE", "timeout": 60}
    if not settings.configured:
        settings.configure(
            DATABASES={
                "default": {
                    "ENGINE": "django.db.backends.sqlite3",
                    "NAME": directory / "post_office.db",
                    "OPTIONS": options,
                }
            },
            INSTALLED_APPS=["django.contrib.contenttypes", "post_office"],
            TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
            POST_OFFICE={"BACKENDS": {"default": "django.core.mail.backends.dummy.EmailBackend"}},
            USE_TZ=True,
        )
        django.setup()
    from django.core.management import call_command
    from post_office import mail

    call_command("migrate", verbosity=0)

    def store() -> object:
        return mail.send(
            "ann@example.org", "shop@example.org", subject="The news", html_message=HTML
        )

    def finish() -> int:
        return sum(mail.send_queued(processes=1))

    return store, finish


PEERS = {"huey": huey, "litequeue": litequeue, "post_office": post_office}
TAKERS = {"huey": 2, "litequeue": 2, "post_office": 1}


def stored(name: str, directory: Path, seconds: float) -> tuple[int, float]:
    """How many mails one process stored, in how many seconds."""
    store, _ = PEERS[name](directory)
    began, mails = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        store()
        mails += 1
    return mails, time.perf_counter() - began


def finished(name: str, directory: Path, seconds: float) -> tuple[int, float]:
    """How many mails one process finished, until none was left or the time was up."""
    _, finish = PEERS[name](directory)
    began, mails = time.perf_counter(), 0
    while time.perf_counter() < began + seconds and (done := finish()):
        mails += int(done)
    return mails, time.perf_counter() - began


def rate(work: Work, processes: int, name: str, directory: Path, seconds: float) -> float:
    """Mails a second of so many processes."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        done = pool.starmap(work, [(name, directory, seconds)] * processes)
    return sum(mails for mails, _ in done) / max(took_s for _, took_s in done)


def main(name: str, directory: Path, seconds: float) -> None:
    PEERS[name](directory)  # the tables are made by one process
    found = {
        "stored_per_s": rate(stored, 2, name, directory, seconds),
        "done_per_s": rate(finished, TAKERS[name], name, directory, seconds),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))

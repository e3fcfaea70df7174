"""Serving the API: gunicorn's master, and in each worker uvicorn with an eye on slow clients.

uvicorn's worker was chosen over gunicorn's own `asgi` worker: measured, both store as many posts
per second, but only uvicorn's lets its protocol be extended as below, without which (under either)
a client that sends half a request holds its connection for ever.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import select
import signal
import sys
import threading
from contextlib import suppress
from http import HTTPStatus
from typing import Any, ClassVar, Final

from gunicorn import glogging
from gunicorn.app.base import BaseApplication
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn_worker import UvicornWorker

from mailer import plugins
from mailer.api import problems
from mailer.api.app import STOPPING, AsgiApp, create_app
from mailer.api.backend import Backend
from mailer.clock import SystemClock
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.outcomes import rules_of
from mailer.store.verify import verify

log = logging.getLogger("mailer.api")

REQUEST_WITHIN_S: Final = 10.0
MIN_BYTES_PER_S: Final = 8 * 1024
"""A request must have come in 10 s, plus 1 s for each 8 KiB of it."""
MAX_HEAD_BYTES: Final = 64 * 1024
"""What may come without a byte of a body: a request's head, its trailer, or a chunk's extension."""
LINGER_S: Final = 2.0
"""So long what still comes of a request that was answered early is read and thrown away."""
TAKE_ANSWER_WITHIN_S: Final = 30.0
LOOK_EVERY_S: Final = 1.0
LAST_REQUEST_WITHIN_S: Final = 1.0
"""At the end, so long an idle connection stays open for a request that may be on its way."""
ANSWER_WITHIN_S: Final = 6
"""At the end, so long a request that has begun may take; then its connection is cut."""
STOP_WITHIN_S: Final = 9
GIVE_WAY_AFTER_S: Final = 0.0005
"""So long the event loop may keep the interpreter from the thread that commits, which needs it a
dozen times while all other writers wait for the database. Beside a busy loop a commit of 15 posts
held it for 20 ms with Python's 5 ms, for 10 with this, and for 6 beside none."""
CONNECTIONS_A_WORKER: Final = 4_000


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP with an end to patience: with slow senders, slow readers, endless headers."""

    _since: float | None = None
    """When what is awaited began to be awaited: the rest of a request."""
    _answered: float | None = None
    """When an answer was given before its request had come to its end."""
    _stuck: float | None = None
    """When the client stopped taking its answer."""
    _came_bytes = 0
    _head_bytes = 0
    _refused = False
    """What still comes is not read any more."""
    _look: asyncio.TimerHandle | None = None
    _ending: ClassVar[bool] = False
    """This worker is told to end: every answer is the last of its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._look = self.loop.call_later(LOOK_EVERY_S, self._look_at_watch)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._since is None and (self.cycle is None or self.cycle.response_complete):
            self._since = self.loop.time()
        if self._refused:
            return
        self._came_bytes += len(data)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if PatientProtocol._ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._since = self._answered = None
        self._came_bytes = self._head_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._since is not None:
            self._answered = self.loop.time()
        super().on_response_complete()

    def shutdown(self) -> None:
        """Requests that wait for something are answered now.

        Idle connections are not closed in the face of a request that is on its way.
        """
        self.app_state[STOPPING].set()
        PatientProtocol._ending = True
        if self.cycle is None or self.cycle.response_started:
            self.loop.call_later(LAST_REQUEST_WITHIN_S, super().shutdown)
        else:
            super().shutdown()

    def _refuse_head(self) -> None:
        """Answered where no answer has begun; the connection is closed when that may be read."""
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
            return
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        data = problems.body(status, f"a request has at most {MAX_HEAD_BYTES} bytes of headers")
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n"
            f"content-type: {problems.MEDIA_TYPE}\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        self.transport.write(head.encode() + data)
        self._answered = self.loop.time()

    def pause_writing(self) -> None:
        self._stuck = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stuck = None
        super().resume_writing()

    def _look_at_watch(self) -> None:
        now = self.loop.time()
        if self._too_slow(now):
            self.transport.abort()
        else:
            self._look = self.loop.call_later(LOOK_EVERY_S, self._look_at_watch)

    def _too_slow(self, now: float) -> bool:
        if self._stuck is not None and now > self._stuck + TAKE_ANSWER_WITHIN_S:
            return True
        if self._answered is not None:
            return now > self._answered + LINGER_S
        patience_s = REQUEST_WITHIN_S + self._came_bytes / MIN_BYTES_PER_S
        return self._since is not None and now > self._since + patience_s


class Worker(UvicornWorker):  # type: ignore[misc]
    """uvicorn as mailer needs it; what a header says of the peer is TRUSTED_PROXIES' to say."""

    CONFIG_KWARGS = {  # noqa: RUF012 - as UvicornWorker has it
        "loop": "uvloop",
        "http": PatientProtocol,
        "ws": "none",
        "lifespan": "on",
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
        "limit_concurrency": CONNECTIONS_A_WORKER,
        "timeout_graceful_shutdown": ANSWER_WITHIN_S,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        logging.getLogger("uvicorn.error").propagate = True

    def init_process(self) -> None:
        sys.setswitchinterval(GIVE_WAY_AFTER_S)
        threading.Thread(target=_end_with, args=(self.ppid,), daemon=True).start()
        super().init_process()


def _end_with(master: int) -> None:
    """End when gunicorn's master does, however that ends: the next one needs the port."""
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(master)
        select.select([fd], [], [])
    os.kill(os.getpid(), signal.SIGTERM)


class Log(glogging.Logger):  # type: ignore[misc]
    """gunicorn's log lines go where ours go, in the same form."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    """gunicorn with its settings from here and no file or command line of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        host, port = self._settings.listen
        bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        options = {
            "bind": bind,
            "workers": self._settings.api_workers,
            "worker_class": "mailer.api.server.Worker",
            "proc_name": "mailer-api",
            "graceful_timeout": STOP_WITHIN_S,
            "timeout": 30,
            "keepalive": 75,
            "backlog": 2048,
            "limit_request_line": 8190,
            "loglevel": "warning",
            "logger_class": Log,
            "accesslog": None,
            "control_socket_disable": True,
            "on_exit": lambda _: log.info("the API has stopped"),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> AsgiApp:
        return application(self._settings)


def application(settings: Settings) -> AsgiApp:
    """The ASGI application these settings ask for; opens nothing until its lifespan starts."""
    manager = plugins.load()
    backend = Backend(
        settings=settings,
        clock=SystemClock(),
        plugins=manager,
        transports=frozenset(plugins.transports(manager, settings)),
        open_store=lambda: _open_store(settings),
    )
    app: Any = create_app(backend)  # each library has its own names for the types of ASGI
    if settings.trusted_proxies:
        app = ProxyHeadersMiddleware(app, list(settings.trusted_proxies))
    served: AsgiApp = app
    return served


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then stop within 10 s, giving every answer that is due.

    A socket that systemd passes is served instead of `settings.listen`. Raises MailerError, before
    anything listens, for a database that can't be served.
    """
    verify(settings.database_path)
    # Faults of schema, plugins and settings are told here, once. Nothing stays open over the fork.
    _open_store(settings).close()
    application(settings)
    _allow_many_files()
    _Gunicorn(settings).run()


def _open_store(settings: Settings) -> Store:
    return Store(settings.database_path, rules_of(settings))


def _allow_many_files() -> None:
    """Connections are file descriptors; systems allow 1,024 unless asked for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS_A_WORKER
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

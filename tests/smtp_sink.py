"""A real SMTP server that takes every mail and keeps a record, or misbehaves as it is told.

In a test: `with SmtpSink() as sink`. For other processes: `python -m tests.smtp_sink --port 0
--record FILE [--delay-ms N]` prints its port on the first line and appends one JSON line per mail.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import re
import signal
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

DROP = "drop"
"""Instead of a reply: close the connection."""
HANG = "hang"
"""Instead of a reply: say nothing more."""
DRIP = "drip"
"""Instead of a reply: a byte each 50 ms, for ever, and never the end of a line."""


@dataclass(frozen=True)
class ReceivedMail:
    """One mail as it came; times are the boot's monotonic clock."""

    mail_from_us: int
    received_us: int
    sender: str
    recipients: tuple[str, ...]
    message: bytes

    @property
    def message_id(self) -> str:
        match = re.search(rb"^Message-ID:\s*(\S+)", self.message, re.IGNORECASE | re.MULTILINE)
        return match[1].decode() if match else ""


@dataclass
class Script:
    """What the sink does other than to take the mail."""

    replies: Mapping[str, str | list[str]] = field(default_factory=dict)
    """Verb → reply, or DROP, HANG, DRIP; a list is used up, one each time, then all is well.

    Verbs are SMTP's, and CONNECT (the greeting) and DOT (the end of the data).
    """
    extensions: tuple[str, ...] = ("PIPELINING", "SIZE 50000000", "ENHANCEDSTATUSCODES")
    delay_s: float = 0.0
    """Before each reply to the end of the data."""
    password: str | None = None
    """AUTH PLAIN is asked for, with this password and the user `user`."""
    drop_idle_after: int | None = None
    """Close the connection silently after so many mails."""
    reads_data: bool = True
    """False: the client's data is left in the socket after 354."""

    def reply(self, verb: str, usual: str) -> str:
        told = self.replies.get(verb, usual)
        if isinstance(told, list):
            return told.pop(0) if told else usual
        return told


class SmtpSink:
    """The sink in a thread of its own."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
    ) -> None:
        self.script = script or Script()
        self.mails: list[ReceivedMail] = []
        self.commands: list[str] = []
        """Every command line received, over all connections."""
        self.connections = 0
        self.most_at_once = 0
        self.data_bytes = 0
        """Bytes of message data received, whole mails or not."""
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.port = 0
        self.on_mail: Callable[[ReceivedMail], None] = self.mails.append
        self._open = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(0), self._loop).result(10)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def shut(self) -> None:
        """Stop listening and break every connection."""
        asyncio.run_coroutine_threadsafe(self.stop(), self._loop).result(10)

    async def start(self, port: int) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        tls = self.tls if self.implicit_tls else None
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", port, ssl=tls, limit=2**26, backlog=1000
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self._open += 1
        self.most_at_once = max(self.most_at_once, self._open)
        try:
            await _Conversation(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self._open -= 1
            self._tasks.discard(task)
            writer.transport.abort()


class _Conversation:
    def __init__(
        self, sink: SmtpSink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.sink = sink
        self.reader = reader
        self.writer = writer
        self.over_tls = sink.implicit_tls
        self.mails = 0
        self.authenticated = sink.script.password is None
        self.reset()

    def reset(self) -> None:
        self.sender = ""
        self.recipients: list[str] = []
        self.mail_from_us = 0

    async def run(self) -> None:
        await self.answer("CONNECT", "220 sink ESMTP")
        while line := await self.reader.readline():
            command = line.decode("ascii", "replace").rstrip("\r\n")
            self.sink.commands.append(command)
            verb, _, argument = command.partition(" ")
            verb = verb.upper()
            if verb == "QUIT":
                await self.answer("QUIT", "221 2.0.0 bye")
                return
            await self.execute(verb, argument)

    async def execute(self, verb: str, argument: str) -> None:
        if verb == "EHLO":
            await self.answer("EHLO", self.greeting())
        elif verb == "STARTTLS" and self.sink.tls:
            await self.answer("STARTTLS", "220 2.0.0 ready")
            await self.writer.start_tls(self.sink.tls)
            self.over_tls = True
            self.reset()
        elif verb == "AUTH":
            await self.authenticate(argument)
        elif verb == "MAIL" and self.authenticated:
            self.reset()
            self.mail_from_us = _now_us()
            self.sender = _address(argument)
            if await self.answer("MAIL", "250 2.1.0 ok") != 250:
                self.reset()
        elif verb == "MAIL":
            await self.answer("MAIL", "530 5.7.0 authentication required")
        elif verb == "RCPT" and self.sender:
            if await self.answer("RCPT", "250 2.1.5 ok") == 250:
                self.recipients.append(_address(argument))
        elif verb == "DATA" and self.recipients:
            if await self.answer("DATA", "354 go on") == 354:
                await self.take_data()
        elif verb in {"RSET", "NOOP"}:
            self.reset()
            await self.answer(verb, "250 2.0.0 ok")
        else:
            await self.answer(verb, "503 5.5.1 not now")

    def greeting(self) -> str:
        extensions = list(self.sink.script.extensions)
        if self.sink.tls and not self.over_tls:
            extensions.append("STARTTLS")
        if self.sink.script.password is not None:
            extensions.append("AUTH PLAIN LOGIN")
        lines = ["sink", *extensions]
        return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])

    async def authenticate(self, argument: str) -> None:
        expected = f"\0user\0{self.sink.script.password}".encode()
        mechanism, _, given = argument.partition(" ")
        if mechanism.upper() == "PLAIN" and base64.b64decode(given) == expected:
            self.authenticated = True
            await self.answer("AUTH", "235 2.7.0 welcome")
        else:
            await self.answer("AUTH", "535 5.7.8 authentication credentials invalid")

    async def take_data(self) -> None:
        if not self.sink.script.reads_data:
            await asyncio.Event().wait()
        data = await self.reader.readuntil(b"\r\n.\r\n")
        self.sink.data_bytes += len(data)
        message = data[:-3]
        if message.startswith(b".") or b"\r\n." in message:
            message = re.sub(rb"(?m)^\.", b"", message)
        mail = ReceivedMail(
            self.mail_from_us, _now_us(), self.sender, tuple(self.recipients), message
        )
        if self.sink.script.delay_s:
            await asyncio.sleep(self.sink.script.delay_s)
        self.reset()
        self.mails += 1
        reply = self.sink.script.reply("DOT", "250 2.0.0 ok: queued")
        if reply.startswith("250"):
            self.sink.on_mail(mail)  # before the reply: who has read that finds the mail here
        await self.say(reply)
        if self.mails == self.sink.script.drop_idle_after:
            raise ConnectionAbortedError

    async def answer(self, verb: str, usual: str) -> int:
        """Send the reply the script has for this verb; returns its code."""
        reply = self.sink.script.reply(verb, usual)
        await self.say(reply)
        return int(reply[:3]) if reply[:3].isdecimal() else 0

    async def say(self, reply: str) -> None:
        if reply == DROP:
            raise ConnectionAbortedError
        if reply == HANG:
            await asyncio.Event().wait()
        while reply == DRIP:
            self.writer.write(b"2")
            await self.writer.drain()
            await asyncio.sleep(0.05)
        self.writer.write(reply.encode() + b"\r\n")
        await self.writer.drain()


def _address(argument: str) -> str:
    match = re.search(r"<(.*?)>", argument)
    return match[1] if match else ""


def _now_us() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000


async def _serve_until_told(port: int, record: Path, delay_ms: int, raw: bool) -> None:
    sink = SmtpSink(Script(delay_s=delay_ms / 1000))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with record.open("a", buffering=1) as lines:

        def write(mail: ReceivedMail) -> None:
            entry: dict[str, object] = {
                "mail_from_us": mail.mail_from_us,
                "mono_us": mail.received_us,
                "rcpt": mail.recipients[0],
                "message_id": mail.message_id,
            }
            if raw:
                entry["raw"] = base64.b64encode(mail.message).decode()
            lines.write(json.dumps(entry) + "\n")

        sink.on_mail = write
        await sink.start(port)
        print(sink.port, flush=True)
        await stop.wait()
        await sink.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--delay-ms", type=int, default=0, help="before each 250 after the data")
    parser.add_argument("--raw", action="store_true", help="record the message too, in base64")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve_until_told(options.port, options.record, options.delay_ms, options.raw))


if __name__ == "__main__":
    main()

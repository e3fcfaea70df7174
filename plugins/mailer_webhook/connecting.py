"""Connecting to a receiver: only to an address that was checked, which is the one connected to.

A name is resolved once for each connection, all its addresses are judged by `addresses`, and the
first of the fit ones that answers is used, by its number. Over TLS the receiver's certificate has
to be for the name, by an authority that this machine trusts or that is a public root.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, Final

import certifi

from mailer_webhook.addresses import Network, Target, may_connect, refusal

CONNECT_TIMEOUT_S: Final = 5.0
"""For each of a name's addresses."""
_ADDRESSES_TRIED: Final = 3

Resolve = Callable[[str, int], Sequence[tuple[Any, ...]]]
"""Host and port → what `socket.getaddrinfo` gives."""


class Refused(OSError):
    """None of a name's addresses may be connected to."""


def resolve(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    """Ask the system's resolver."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def trusting() -> ssl.SSLContext:
    """What this machine trusts, and the public roots."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def left_s(deadline: float) -> float:
    """Seconds until a time of `time.monotonic`. Raises TimeoutError when it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class Connector:
    """Makes connections; usable by several threads."""

    def __init__(
        self,
        allowed: Sequence[Network],
        *,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = resolve,
    ) -> None:
        """Allow the ranges of WEBHOOK_ALLOW_PRIVATE besides public addresses."""
        self.allowed = tuple(allowed)
        self.tls = tls or trusting()
        self._resolve = resolve

    def connect(self, target: Target, deadline: float) -> socket.socket:
        """Connect, by TLS if the target has it. Raises OSError; Refused is one."""
        sock = self._reach(self._fit(target), deadline)
        if not target.tls:
            return sock
        try:
            sock.settimeout(left_s(deadline))
            return self.tls.wrap_socket(sock, server_hostname=target.host)
        except BaseException:
            sock.close()
            raise

    def _fit(self, target: Target) -> list[tuple[Any, ...]]:
        """The resolver's entries that may be connected to; at least one."""
        found = self._resolve(target.host, target.port)
        judged = [(entry, ip_address(entry[4][0])) for entry in found]
        fit = [e for e, address in judged if may_connect(address, self.allowed, tls=target.tls)]
        if fit:
            return fit
        if judged:
            raise Refused(refusal(judged[0][1], tls=target.tls))
        raise Refused("its host has no address")

    def _reach(self, entries: Sequence[tuple[Any, ...]], deadline: float) -> socket.socket:
        failures = []
        for family, kind, protocol, _, where in entries[:_ADDRESSES_TRIED]:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(min(left_s(deadline), CONNECT_TIMEOUT_S))
                sock.connect(where)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                failures.append(error)
            else:
                return sock
        raise failures[0]

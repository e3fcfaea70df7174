"""Where a webhook may be posted to: https, and addresses that anyone on the internet can reach.

`checked_url` judges the URL when an endpoint is made; `may_connect` judges each address after its
name has been resolved, just before it is connected to. WEBHOOK_ALLOW_PRIVATE names ranges that are
taken besides, with or without TLS. Both are pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_CHARS: Final = 2_000

# IANA's special-purpose registries, multicast, and Azure's own service on a public address.
# `is_global` won't do: what it means by it differs between releases of Python 3.11.
# fmt: off
_NOT_PUBLIC: Final = tuple(ip_network(text) for text in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32",
    "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24",
    "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
))
# fmt: on
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All of IPv6 that is given out to be reached by everyone (RFC 4291)."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
"""Stands for the IPv4 address in its last 32 bits (RFC 6052), which is judged instead."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart."""

    tls: bool
    host: str
    """As the URL has it: a name, or an address without brackets."""
    port: int
    path: str
    """With the query."""


def checked_url(url: str, allowed: Sequence[Network]) -> Target:
    """Take a URL apart. Raises ValueError with a sentence when nothing may be posted there."""
    if len(url) > MAX_URL_CHARS or not re.fullmatch(r"[!-\[\]-~]+", url):
        raise ValueError(
            f"a URL has at most {MAX_URL_CHARS:,} characters, all of them ASCII, without spaces or"
            " backslashes; other names of hosts are written as xn--"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"this is no URL: {error}") from None
    if parts.scheme not in {"https", "http"} or not host or port == 0:
        raise ValueError("it has to be of the form https://host/path")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("a user, password or fragment can't be part of it")
    if parts.scheme == "http" and not allowed:
        raise ValueError(
            "http:// is for addresses within WEBHOOK_ALLOW_PRIVATE, which is not set; use https://"
        )
    tls = parts.scheme == "https"
    address = _literal(host)
    if address is not None and not may_connect(address, allowed, tls=tls):
        raise ValueError(refusal(address, tls=tls))
    return Target(
        tls=tls,
        host=host,
        port=port or (443 if tls else 80),
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )


def may_connect(address: Address, allowed: Sequence[Network], *, tls: bool) -> bool:
    """Whether a webhook may be sent to this address."""
    address = _meant(address)
    if any(address in network for network in allowed):
        return True
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return tls and not any(address in network for network in _NOT_PUBLIC)


def refusal(address: Address, *, tls: bool) -> str:
    """Why an address is not connected to, in the operator's words."""
    if not tls:
        return f"{address} is not within WEBHOOK_ALLOW_PRIVATE, so it needs https://"
    return f"{address} is no public address, nor is it within WEBHOOK_ALLOW_PRIVATE"


def _meant(address: Address) -> Address:
    """The address that packets will go to: IPv4 may come in IPv6's clothes."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _literal(host: str) -> Address | None:
    """The address a host is written as; None for a name.

    Raises ValueError for the forms that only inet_aton reads (RFC 6943, 3.1.1): 2130706433,
    0177.0.0.1, 0x7f.1. They are written by nobody but to get past such a check as this.
    """
    try:
        return ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2]
        if ":" in host or re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]*", last):
            raise ValueError(f"{host} is neither a name nor an address in its usual form") from None
        return None

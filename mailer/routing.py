"""Which way mail goes: transports in the order of preference, and the queues named after them.

A message goes by the transport it names, else by the first rule of ROUTES that its topic or its
sender's domain matches, else by TRANSPORT. A rule may name several transports: the next takes what
waits for one that is out of service. Mail waits in a queue of its route's name, as `ses` or
`ses,smtp`; with `@example.com` behind it, a queue holds the mail to one domain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

Route = tuple[str, ...]
"""Names of transports, the preferred one first."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
"""What a transport may be called: the names of queues are made from it."""

_DOMAINS: Final = re.compile(r"[A-Za-z0-9.*?\[\]!-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """Mail whose `part` matches the glob takes this route."""

    part: str
    """`topic`: its topic's id; `from`: the domain of its From address."""
    glob: str
    route: Route

    def __str__(self) -> str:
        return f"{self.part}:{self.glob}={queue_of(self.route)}"


@dataclass(frozen=True, slots=True)
class Routes:
    """The rules in their order."""

    rules: tuple[Rule, ...] = ()

    def choose(self, topic_id: str | None, from_email: str) -> Route | None:
        """The route of the first rule that matches; None when none does."""
        domain = from_email.rpartition("@")[2].rstrip(">").lower()
        looked_at = {"topic": topic_id or "", "from": domain}
        for rule in self.rules:
            if fnmatchcase(looked_at[rule.part], rule.glob):
                return rule.route
        return None

    def __str__(self) -> str:
        return "; ".join(map(str, self.rules))


@dataclass(frozen=True, slots=True)
class Ways:
    """How mail leaves: by TRANSPORT, where no rule of ROUTES says otherwise."""

    default: Route
    routes: Routes = Routes()

    @property
    def names(self) -> frozenset[str]:
        """The transports in them; a message can name any other there is."""
        return frozenset(name for way in self.all() for name in way)

    def all(self) -> Iterable[Route]:
        return (self.default, *(rule.route for rule in self.routes.rules))

    def choose(self, topic_id: str | None, from_email: str) -> Route:
        """The way of a message that names none."""
        return self.routes.choose(topic_id, from_email) or self.default

    @property
    def with_choice(self) -> bool:
        """Whether mail may go by another transport than the preferred one."""
        return any(len(way) > 1 for way in self.all())

    def detours(self, out: Set[str]) -> frozenset[tuple[str, str]]:
        """Each preferred transport of those in `out`, and which takes its mail instead."""
        takers = {(way[0], next((n for n in way if n not in out), way[0])) for way in self.all()}
        return frozenset((name, taker) for name, taker in takers if name != taker)

    def __str__(self) -> str:
        return "; ".join(filter(None, (queue_of(self.default), f"{self.routes}")))


def route(value: str) -> Route:
    """`ses`, or `ses,smtp`."""
    names = tuple(name.strip() for name in value.split(","))
    wrong = [name for name in names if not NAME.fullmatch(name)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no transport's name")
    if len(set(names)) < len(names):
        raise ValueError("a transport stands in it twice")
    return names


def routes(value: str) -> Routes:
    """`topic:news/*=ses; from:shop.example=smtp,ses`."""
    return Routes(tuple(_rule(entry.strip()) for entry in value.split(";") if entry.strip()))


def _rule(entry: str) -> Rule:
    condition, equals, way = entry.rpartition("=")
    part, colon, glob = (word.strip() for word in condition.partition(":"))
    if not equals or not colon or part not in {"topic", "from"} or not glob:
        raise ValueError(f"{entry!r} is neither topic:GLOB=TRANSPORT nor from:GLOB=TRANSPORT")
    if part == "from":
        if not _DOMAINS.fullmatch(glob):
            raise ValueError(f"{entry!r}: behind from: stands a domain, without @")
        glob = glob.lower()
    try:
        return Rule(part, glob, route(way))
    except ValueError as error:
        raise ValueError(f"{entry!r}: {error}") from None


def queue_of(way: Route) -> str:
    """The queue in which mail of this route waits."""
    return ",".join(way)


def route_of(queue: str) -> Route:
    """The route of the mail that waits in a queue."""
    return tuple(queue.partition("@")[0].split(","))


def preferred(queue: str) -> str:
    """The transport that mail in this queue waits for first of all."""
    return route_of(queue)[0]


def takes_from(transport: str, queue: str, working: Set[str]) -> bool:
    """Whether a transport may take mail of a queue: no other that works is preferred there."""
    way = route_of(queue)
    return transport in way and working.isdisjoint(way[: way.index(transport)])


def kept_by(transport: str, queue: str) -> str:
    """The queue of mail out of `queue` that no other transport may take."""
    _, at, domain = queue.partition("@")
    return f"{transport}{at}{domain}"

"""The variables of the webhook plugin."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from mailer.variables import setting, several

if TYPE_CHECKING:
    from mailer_webhook.addresses import Network
    from mailer_webhook.endpoints import Choice

EVERYWHERE: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def _endpoints(value: str) -> tuple[Choice, ...]:
    """Whether an address is open to us is seen when it is connected to."""
    found = [_endpoint(part) for part in value.split(";") if part.strip()]
    if len({choice.url for choice in found}) < len(found):
        raise ValueError("an endpoint stands there twice")
    return tuple(found)


def _endpoint(text: str) -> Choice:
    from mailer_webhook.endpoints import Choice

    url, *options = text.split()
    given: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if name not in {"types", "topics", "batch"} or not equals or name in given:
            raise ValueError(f"{option[:80]!r} is no option, or stands there twice")
        given[name] = value
    batch = given.get("batch", "1")
    choice = Choice(
        url=url,
        types=tuple(filter(None, given.get("types", "").split(","))),
        topics=tuple(filter(None, given.get("topics", "").split(","))),
        batch_size=int(batch) if batch.isdecimal() and batch.isascii() else 0,
    )
    if faults := choice.faults(EVERYWHERE):
        raise ValueError("; ".join(f"{fault.path}: {fault.message}" for fault in faults))
    return choice


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    endpoints: tuple[Choice, ...] = setting(
        "WEBHOOK_ENDPOINTS",
        default=(),
        parse=_endpoints,
        accepted="https://host/path, perhaps with types=delivery,bounce topics=news/* batch=100"
        " after it; several separated by ;",
        doc="Endpoints that are told of events, beside those made by API or command.",
    )
    allow_private: tuple[Network, ...] = setting(
        "WEBHOOK_ALLOW_PRIVATE",
        default=(),
        parse=several(ip_network),
        accepted="networks as 10.1.0.0/16 or fd12::/64, several separated by commas",
        doc="Addresses webhooks may be sent to though they are not public, by http:// too.",
    )

"""What third parties test their plugins with, as this repository does its own.

Contracts are classes of tests for pytest: subclass one and give it the fixtures it names. An
`Installation` is all of mailer, running in a directory of the test's. A `HandClock` moves by hand.
"""

from mailer.testing.clock import HandClock
from mailer.testing.events import EventPluginContract, event
from mailer.testing.installation import Installation
from mailer.testing.notifications import Callback, NotificationContract
from mailer.testing.transports import (
    Received,
    TransportContract,
    assert_all_accepted,
    envelope,
    parse,
)
from mailer.testing.waiting import until

__all__ = [
    "Callback",
    "EventPluginContract",
    "HandClock",
    "Installation",
    "NotificationContract",
    "Received",
    "TransportContract",
    "assert_all_accepted",
    "envelope",
    "event",
    "parse",
    "until",
]

"""Which way mail goes: the names of the queues it waits in.

A queue is named `ses`, after the transport its mail waits for, or `ses,smtp` when another takes it
while the first is out of service; with `@example.com` behind it, it holds the mail to one domain.
"""

from __future__ import annotations


def preferred(queue: str) -> str:
    """The transport that mail in this queue waits for first of all."""
    return queue.partition("@")[0].partition(",")[0]

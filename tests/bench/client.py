"""A client that posts at a steady rate and writes down how long each answer took.

    python -m tests.bench.client PORT POSTS_PER_SECOND RECIPIENTS

A process of its own, so that nothing else takes time from it. A line for each post, on standard
output: when it should have gone out (s since 1970), how many ms after that it was answered, the
batch's id. It ends when its standard input does.
"""

from __future__ import annotations

import http.client
import json
import math
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BAD_EVERY = 20
"""One recipient of so many is one that the null transport rejects."""


@dataclass(frozen=True)
class Post:
    """One post as the client saw it."""

    due_s: float
    wait_ms: float
    batch_id: str


class Client:
    """What it has written down so far."""

    def __init__(self, record: Path) -> None:
        self._lines = record.open()
        self._posts: list[Post] = []

    def posts(self) -> list[Post]:
        """In order; every line is written at once."""
        for line in () if self._lines.closed else self._lines:
            due, wait, batch_id = line.split()
            self._posts.append(Post(float(due), float(wait), batch_id))
        return self._posts

    def waits_ms(self, since_s: float, until_s: float = math.inf) -> list[float]:
        """Of the posts that should have gone out then."""
        return [post.wait_ms for post in self.posts() if since_s <= post.due_s < until_s]

    def close(self) -> None:
        """Read what is left; what there is can still be asked for."""
        self.posts()
        self._lines.close()


@contextmanager
def posting(record: Path, port: int, per_s: int, recipients: int = 1) -> Iterator[Client]:
    """Post for as long as the block runs; what is not answered 200 ends the client, and fails."""
    with record.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, f"{port}", f"{per_s}", f"{recipients}"],
            stdin=subprocess.PIPE,
            stdout=output,
        )
    client = Client(record)
    try:
        yield client
    finally:
        assert process.stdin
        process.stdin.close()
        ended = process.wait(timeout=60)
        client.close()
    assert ended == 0


def main(port: int, per_s: int, recipients: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    ahead_s = time.time() - time.monotonic()
    due, number = time.monotonic(), 0
    while True:
        due += 1 / per_s
        if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            return
        people = range(number, number + recipients)
        number += recipients
        emails = [f"{'other' if n % BAD_EVERY else 'bad'}{n}@example.org" for n in people]
        message = {
            "emails": emails,
            "subject": "Hello",
            "content": "<p>Hello",
            "topic_id": "others",
        }
        body = json.dumps({"messages": [message]})
        connection.request("POST", "/v1/messages", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        wait_ms = (time.monotonic() - due) * 1000
        assert response.status == 200, answer
        print(f"{due + ahead_s:.3f} {wait_ms:.2f} {answer['batch_id']}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

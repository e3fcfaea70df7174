"""Figures 1 and 2: how fast mail is accepted, on disk before each answer."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import jwt

from tests.bench.installed import Bench, Load, wrk
from tests.bench.report import Figure

SECRET = "a secret of more than 32 bytes, for the benchmark"


def singles(directory: Path, seconds: int) -> Iterator[Figure]:
    """Figure 1: with nothing, with a token, with a token and an idempotency key."""
    token = jwt.encode({"sub": "bench", "exp": time.time() + 86_400}, SECRET, "HS256")
    ways: dict[str, tuple[dict[str, str], list[str]]] = {
        "no authentication": ({}, []),
        "JWT": ({"JWT_SECRET": SECRET}, [token]),
        "JWT and idempotency key": ({"JWT_SECRET": SECRET}, [token, "keys"]),
    }
    for way, (settings, arguments) in ways.items():
        place = directory / way.replace(" ", "-")
        place.mkdir()
        with Bench(place, command="serve", **settings) as bench:
            began_s = bench.cpu_s()
            load = wrk(bench.url, "post.lua", *arguments, seconds=seconds)
            cpu_s = bench.cpu_s() - began_s
        bench.check()
        _all_stored(bench, load)
        yield Figure(1, f"durable single posts, {way}", load.per_s, "/s", ">= 8000")
        yield Figure(1, f"… 99 of 100 answered within, {way}", load.p99_ms, "ms", "<= 20")
        yield Figure(1, f"… CPU of the API a post, {way}", cpu_s / load.requests * 1e6, "µs")


def _all_stored(bench: Bench, load: Load) -> None:
    """Whatever was answered 200 is there."""
    assert not load.refused, bench.log
    with closing(bench.store()) as store:
        assert store.batches.queued() >= load.requests


def large(directory: Path, posts: int) -> Iterator[Figure]:
    """Figure 2: one post of 10,000 recipients, the median of some."""
    with Bench(directory, command="serve", API_WORKERS="1") as bench:
        rate = large_posts(bench, posts)
    bench.check()
    yield Figure(2, "one post of 10,000 recipients", rate, "recipients/s", ">= 250000")


def large_posts(bench: Bench, posts: int) -> float:
    """Recipients a second in posts of 10,000, the median of so many."""
    took_s = []
    connection = http.client.HTTPConnection("127.0.0.1", bench.port, timeout=60)
    for post in range(posts):
        emails = [f"reader{post}.{number}@example.org" for number in range(10_000)]
        message = {"subject": "News", "content": "<p>News</p>" * 50, "emails": emails}
        body = json.dumps({"messages": [{**message, "topic_id": "news"}]})
        began = time.perf_counter()
        connection.request("POST", "/v1/messages", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        took_s.append(time.perf_counter() - began)
        assert (response.status, answer["success"]) == (200, 10_000)
    connection.close()
    return 10_000 / statistics.median(took_s)

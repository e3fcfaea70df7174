"""A stranger who has one mail's token learns nothing of other mails, and opens none of them.

Tokens are forged by the ten thousand and asked for over the wire; what the server takes to answer
tells nothing either. The controls are servers that believe any token, or look for its mail first.
"""

from __future__ import annotations

import random
import statistics
import string
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from http.client import HTTPConnection
from itertools import islice

import pytest

from mailer import tokens
from mailer.api.tracking import PIXEL
from tests import weakened
from tests.api.service import Service
from tests.api.steps import BROWSER, opens, sent
from tests.counts import often
from tests.waiting import until

ALPHABET = string.ascii_letters + string.digits + "-_"
MAC_BYTES = 16
IN_FLIGHT = 50
"""Requests sent on a connection before their answers are read."""

SAME_TIME = 0.05
ROUNDS = 1_000


def test_of_a_hundred_thousand_forged_tokens_none_is_recorded(
    serve: Callable[..., Service],
) -> None:
    service = serve()
    good = open_token(service, sent(service, "forged"))
    ask_all(service, list(islice(forged(good), often(100_000))))
    ask_all(service, [good])
    until(lambda: opens(service, "forged") != (0, 0, 0))
    assert opens(service, "forged") == (1, 1, 0)


def test_control_without_signatures_forged_tokens_are_recorded(
    serve: Callable[..., Service],
) -> None:
    service = serve(without=weakened.signatures)
    good = open_token(service, sent(service, "forged"))
    ask_all(service, list(islice(forged(good), 500)))
    until(lambda: opens(service, "forged")[1] > 10)


def forged(good: str) -> Iterator[str]:
    """Tokens that were not made here, without end: bits flipped, numbers counted up, parts cut."""
    raw = decoded(good)
    mac, payload = raw[:MAC_BYTES], raw[MAC_BYTES:]
    batch_id, _, number = payload.decode().partition("-")
    yield from ("", "x", payload.decode(), good + "A", good + "=", good.swapcase(), good * 2)
    yield from (good[:length] for length in range(1, len(good)))
    for bit in range(8 * len(raw)):
        flipped = int.from_bytes(raw) ^ 1 << bit
        yield encoded(flipped.to_bytes(len(raw)))
    chance = random.Random(7)
    count = 0
    while True:
        count += 1
        yield str(count)
        yield f"{batch_id}-{count}"
        yield encoded(mac + f"{batch_id}-{int(number) + count}".encode())
        next_mac = (int.from_bytes(mac) + count) % 256**MAC_BYTES
        yield encoded(next_mac.to_bytes(MAC_BYTES) + payload)
        yield encoded(chance.randbytes(MAC_BYTES) + payload)
        at, other = chance.randrange(len(good)), chance.choice(ALPHABET)
        if good[at] != other:
            yield good[:at] + other + good[at + 1 :]


def ask_all(service: Service, asked: Sequence[str]) -> None:
    """Ask for the pixel of each; the answers are all alike."""
    with closing(service.socket()) as connection:
        for first in range(0, len(asked), IN_FLIGHT):
            part = asked[first : first + IN_FLIGHT]
            connection.sendall(b"".join(request(token) for token in part))
            answers = b""
            while answers.count(PIXEL) < len(part):
                came = connection.recv(1 << 16)
                assert came, answers
                answers += came
            assert answers.count(b"HTTP/1.1 200 OK\r\n") == len(part)
            assert len(answers) % len(part) == 0


def request(token: str) -> bytes:
    head = f"GET /v1/events/open?request_id={token} HTTP/1.1\r\nHost: localhost\r\n"
    return f"{head}User-Agent: {BROWSER['User-Agent']}\r\n\r\n".encode()


@pytest.mark.alone
def test_a_token_takes_as_long_for_a_known_mail_as_for_an_unknown_one(
    serve: Callable[..., Service],
) -> None:
    service = serve()
    known, unknown = token_pair(service)
    of_forged = difference(service, spoilt(known), spoilt(unknown))
    of_signed = difference(service, known, unknown)  # as of a mail that is long forgotten
    print(f"\nknown and unknown mails, forged {of_forged:+.1%}, signed {of_signed:+.1%}")
    assert abs(of_forged) <= SAME_TIME
    assert abs(of_signed) <= SAME_TIME


@pytest.mark.alone
def test_control_a_server_that_looks_for_the_mail_first_takes_longer(
    serve: Callable[..., Service],
) -> None:
    service = serve(without=weakened.equal_times)
    known, unknown = token_pair(service)
    of_forged = difference(service, spoilt(known), spoilt(unknown))
    print(f"\nknown and unknown mails, forged {of_forged:+.1%}")
    assert of_forged > SAME_TIME


def token_pair(service: Service) -> tuple[str, str]:
    """Open tokens of a mail that is there, and of one that is not."""
    known = sent(service, "timing")
    unknown = known.translate(str.maketrans("0123456789", "1234567890"))
    assert service.get(f"/v1/mails/{unknown}").status == 404
    return open_token(service, known), open_token(service, unknown)


def difference(service: Service, known: str, unknown: str) -> float:
    """How much longer the known takes than the unknown, over the wire.

    The median over pairs asked one after the other, in both orders: what else the machine does
    falls on both of a pair, and on either the same.
    """
    pairs: list[tuple[float, float]] = []
    with closing(HTTPConnection("127.0.0.1", service.port)) as connection:
        for _ in range(ROUNDS):
            one, other = taken_s(connection, known), taken_s(connection, unknown)
            pairs.append((one, other))
            other, one = taken_s(connection, unknown), taken_s(connection, known)
            pairs.append((one, other))
    usual_s = statistics.median(other for _, other in pairs)
    return statistics.median(one - other for one, other in pairs) / usual_s


def taken_s(connection: HTTPConnection, token: str) -> float:
    began = time.perf_counter()
    connection.request("GET", f"/v1/events/open?request_id={token}")
    assert connection.getresponse().read() == PIXEL
    return time.perf_counter() - began


def open_token(service: Service, request_id: str) -> str:
    with closing(service.store()) as store:
        return tokens.sign(store.signing_key(), tokens.OPEN, request_id)


def spoilt(token: str) -> str:
    """Under another signature."""
    raw = decoded(token)
    return encoded(bytes([raw[0] ^ 1]) + raw[1:])


def decoded(token: str) -> bytes:
    return urlsafe_b64decode(token + "=" * (-len(token) % 4))


def encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()

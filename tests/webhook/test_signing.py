"""Signatures as the published library of Standard Webhooks checks them."""

from __future__ import annotations

import base64
import time

import pytest
from mailer_webhook.signing import new_secret, signed_headers
from standardwebhooks import Webhook, WebhookVerificationError

BODY = '{"type":"delivery","data":{"recipient":"jörg@example.com"}}'.encode()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_the_published_library_takes_them() -> None:
    secret = new_secret()
    headers = signed_headers("evt-1", BODY, secrets=[secret], now_ms=now_ms())
    assert Webhook(secret).verify(BODY, headers)["type"] == "delivery"


def test_while_two_secrets_hold_a_receiver_may_know_either() -> None:
    old, new = new_secret(), new_secret()
    headers = signed_headers("evt-1", BODY, secrets=[new, old], now_ms=now_ms())
    assert Webhook(old).verify(BODY, headers) == Webhook(new).verify(BODY, headers)


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "evt-2"},
        {"webhook-timestamp": str(now_ms() // 1000 - 1)},
        {"webhook-signature": "v1,AAAA"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_is_changed_on_the_way_is_noticed(changed: dict[str, str]) -> None:
    secret = new_secret()
    headers = signed_headers("evt-1", BODY, secrets=[secret], now_ms=now_ms())
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, {**headers, **changed})
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


def test_the_sample_of_the_specification() -> None:
    """From the vectors of https://github.com/standard-webhooks/standard-webhooks/tree/main/libraries."""
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        now_ms=1614265330_000,
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_is_one_by_the_specification_and_never_made_twice() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert secret.startswith("whsec_")
        assert 24 <= len(base64.b64decode(secret[6:], validate=True)) <= 64

"""What sending costs this side in CPU: `python -m tests.ses.cost [--mails N] [--single]`.

A newsletter with pixel and tracked links, composed as the sender does, handed to the fake in calls
of 50; printed are microseconds of this process's CPU time a mail, composing apart.
"""

from __future__ import annotations

import argparse
import os
import time

from mailer_ses.account import Account
from mailer_ses.transport import SesTransport

from mailer.compose import Links, compose
from mailer.mail import Content, Recipient
from mailer.vocabulary import Lane, OutcomeKind
from tests.ses.harness import ROOT, FakeSes

LINKS = Links("https://mail.example.org", b"k" * 32)


def newsletter(*, clicks: bool) -> Content:
    html = (ROOT / "tests" / "samples" / "newsletter.html").read_text()
    return Content(
        "The spring issue", html, "The spring issue, as text\n" * 40, "newsletter/spring",
        lane=Lane.BULK, track_clicks=clicks,
    )  # fmt: skip


def measured(fake: FakeSes, *, mails: int, bulk: bool, clicks: bool) -> tuple[float, float]:
    """CPU microseconds a mail: to compose, to send."""
    content = newsletter(clicks=clicks)
    fake.told(keep_mails=False)
    account = Account("eu-central-1", "shop@example.org", configuration_set="events", bulk=bulk)
    session = SesTransport(account).open()
    composing_s = sending_s = 0.0
    for first in range(0, mails + 50, 50):
        began_s = time.process_time()
        envelopes = [
            compose(
                content,
                Recipient(f"reader{number}@example.net", "A Reader"),
                request_id=f"0123456789abcdef-{number}",
                created_at_ms=1_700_000_000_000,
                default_from="shop@example.org",
                links=LINKS,
            )
            for number in range(first, first + 50)
        ]
        composed_s = time.process_time()
        outcomes = session.send(envelopes)
        assert {outcome.kind for outcome in outcomes} == {OutcomeKind.ACCEPTED}, outcomes[:2]
        if first:  # the first call makes the connection
            composing_s += composed_s - began_s
            sending_s += time.process_time() - composed_s
    return composing_s / mails * 1e6, sending_s / mails * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=5_000)
    parser.add_argument("--single", action="store_true", help="SendEmail instead of bulk")
    options = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID="AKIATEST", AWS_SECRET_ACCESS_KEY="secret")
    fake = FakeSes.start()
    os.environ["AWS_ENDPOINT_URL_SESV2"] = fake.url
    try:
        for clicks in (False, True):
            composing, sending = measured(
                fake, mails=options.mails, bulk=not options.single, clicks=clicks
            )
            kind = "with tracked links" if clicks else "pixel only"
            print(f"{kind}: {sending:.0f} us a mail to send, {composing:.0f} us to compose")
    finally:
        fake.stop()


if __name__ == "__main__":
    main()

"""Sending in bulk is worth its while; `python -m tests.ses.cost` has the figures."""

from __future__ import annotations

import pytest

from tests.ses.cost import measured
from tests.ses.harness import FakeSes


@pytest.mark.alone
def test_a_mail_in_bulk_costs_an_eighth_of_a_single_one(ses: FakeSes) -> None:
    """Both on this machine, in this process: a figure of its own would tell of the machine."""
    _, single_us = measured(ses, mails=100, bulk=False, clicks=True)
    _, bulk_us = measured(ses, mails=1_000, bulk=True, clicks=True)

    assert bulk_us * 8 < single_us

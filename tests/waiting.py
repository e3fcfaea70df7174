"""Waiting, as `mailer.testing` has it for everybody."""

from mailer.testing.waiting import until

__all__ = ["until"]

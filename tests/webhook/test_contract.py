"""The webhook plugin keeps the contract of event plugins while an endpoint wants all there is."""

from __future__ import annotations

from collections.abc import Callable

import mailer_webhook
import pytest
from mailer_webhook.endpoints import Choice, Endpoint, Endpoints

from mailer.hookspecs import Shelf
from mailer.testing import EventPluginContract, event


class TestWebhook(EventPluginContract):
    @pytest.fixture
    def plugin(self) -> object:
        return mailer_webhook

    @pytest.fixture
    def prepare(self) -> Callable[[Shelf], object]:
        choice = Choice(url="https://example.org/hook")
        return lambda shelf: Endpoints(shelf).put(Endpoint.made(choice, now_ms=0))

    def test_the_endpoint_s_deliveries_are_on_the_shelf(
        self, hook: Callable[..., object], shelf: Shelf
    ) -> None:
        """Else the contract would be kept by doing nothing."""
        before = len(shelf.read())
        hook(event=event(), shelf=shelf)
        assert len(shelf.read()) > before

"""The plugin keeps mailer's contracts."""

from __future__ import annotations

import json
from collections.abc import Callable

import mailer_skylark
import pytest
from mailer_skylark import SkylarkSettings
from mailer_skylark.callbacks import SIGNATURE, signature
from mailer_skylark.transport import Skylark

from mailer.hookspecs import Transport
from mailer.settings import Settings, load
from mailer.testing import Callback, NotificationContract, Received, TransportContract

from .conftest import KEY, Provider


class TestTransport(TransportContract):
    @pytest.fixture
    def transport(self, provider: Provider) -> Transport:
        return Skylark(provider.url, KEY)

    @pytest.fixture
    def received(self, provider: Provider) -> Received:
        return lambda: provider.messages

    @pytest.fixture
    def cut_off(self, provider: Provider) -> Callable[[], None]:
        return provider.stop


class TestCallbacks(NotificationContract):
    @pytest.fixture
    def plugin(self) -> object:
        return mailer_skylark

    @pytest.fixture
    def settings(self) -> Settings:
        return load({"SKYLARK_KEY": KEY}, of_plugins=[SkylarkSettings])

    @pytest.fixture
    def genuine(self) -> list[Callback]:
        return [callback("landed"), callback("returned"), callback("something new")]


def callback(*what: str, ref: str = "contract-1") -> Callback:
    """As Skylark sends it."""
    entries = [
        {"id": f"{ref}-{n}", "what": w, "at_ms": 1_900_000_000_000, "ref": ref, "message": "sky-1",
         "to": "ann@example.org"}
        for n, w in enumerate(what)
    ]  # fmt: skip
    body = json.dumps(entries).encode()
    return Callback({SIGNATURE: signature(KEY, body)}, body)

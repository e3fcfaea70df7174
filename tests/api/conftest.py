from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.api.service import Service


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that leave nothing in each other's way."""
    service = Service(tmp_path_factory.mktemp("api"))
    yield service
    assert service.stop() == 0


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start a service with these settings."""
    services: list[Service] = []

    def start(**settings: Any) -> Service:
        """Names in capitals are settings, the others `Service`'s own."""
        own = {name: settings.pop(name) for name in [*settings] if name.islower()}
        services.append(Service(tmp_path, settings, **own))
        return services[-1]

    yield start
    for service in services:
        service.stop()


@pytest.fixture
def other_address() -> str:
    """An address of this machine that is not a loopback one."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        address: str = probe.getsockname()[0]
    assert not address.startswith("127."), "this machine has no other address"
    return address

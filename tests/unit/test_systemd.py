"""What is told to systemd: datagrams to a socket in the file system or the abstract namespace."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from mailer.systemd import teller


@pytest.mark.parametrize("abstract", [False, True])
def test_a_line_is_a_datagram(tmp_path: Path, abstract: bool) -> None:
    path = str(tmp_path / "notify")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(f"\0{path}" if abstract else path)
        teller(f"@{path}" if abstract else path)("READY=1\nSTATUS=here")
        assert manager.recv(100) == b"READY=1\nSTATUS=here"


@pytest.mark.parametrize("nobody", [None, "", "/nowhere/notify"])
def test_nobody_listens(nobody: str | None) -> None:
    teller(nobody)("READY=1")

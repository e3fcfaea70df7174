from __future__ import annotations

from tests.process.conftest import start

__all__ = ["start"]

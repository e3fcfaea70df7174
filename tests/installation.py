"""mailer as someone has installed it, and plugins beside it as an installer leaves them."""

from __future__ import annotations

from pathlib import Path

from mailer.testing.installation import WHOEVER_TESTS, Installation, free_port

__all__ = ["WHOEVER_TESTS", "Installation", "free_port", "install_plugin"]


def install_plugin(site: Path, name: str, source: str, version: str = "1") -> None:
    """Leave a plugin in a directory as an installer does: a module, and metadata."""
    about = site / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    (site / f"{name}.py").write_text(source)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(f"[mailer]\n{name} = {name}\n")

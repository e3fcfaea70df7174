"""`mailer systemd`: the units of a host, and the user, settings file and command they need.

What is installed is what lies in the repository's `systemd/`, with the paths of this installation
and the API's address put in. Everything is told to systemd by its own commands.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

import click

from mailer.errors import MailerError
from mailer.settings import Settings
from mailer.settings import load as load_settings

UNITS: Final = Path("/etc/systemd/system")
SYSUSERS: Final = Path("/etc/sysusers.d/mailer.conf")
ENV: Final = Path("/etc/mailer/mailer.env")
COMMAND: Final = Path("/usr/local/sbin/mailer")
STATE: Final = Path("/var/lib/mailer")
USER: Final = "mailer"

# What the files say where one installation differs from the next.
PREFIX: Final = "/opt/mailer/current"
PYTHON: Final = "/usr/bin/python3"
LISTEN: Final = "127.0.0.1:3000"

HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - not written to
"""What ProtectHome= and PrivateTmp= keep from the services."""


class NotInstallable(MailerError):
    """The units can't be installed here, or from here."""


@click.group()
def systemd() -> None:
    """Make mailer a service of this host, or no more."""


@systemd.command(
    epilog="\b\nExample:\n  sudo mailer systemd install && sudo systemctl start mailer.target"
)
@click.option("--prefix", type=Path, help="Run bin/mailer of this directory, instead of this one.")
def install(prefix: Path | None) -> None:
    """Install units, user and settings file, and enable them.

    Safe to repeat: a settings file that exists is kept. To be done again after a change of BIND
    or SERVER_PORT.
    """
    _require_root()
    prefix = prefix or Path(sys.prefix)
    _require_in_sight(prefix)
    _write(SYSUSERS, _text("mailer.sysusers"))
    _run("systemd-sysusers", str(SYSUSERS))
    if not ENV.exists():
        made = _text("mailer.env").replace("JWT_SECRET=", f"JWT_SECRET={secrets.token_urlsafe(48)}")
        _write(ENV, made, mode=0o640)
        shutil.chown(ENV, "root", USER)
    listen = _listen(load_settings({}, ENV))
    moved = _is_active("mailer.target") and f"ListenStream={listen}\n" not in _socket()
    for name in _units():
        _write(UNITS / name, _placed(name, prefix, listen))
    _write(COMMAND, _placed("mailer.sh", prefix, listen), mode=0o755)
    _run("systemctl", "daemon-reload")
    _run("systemctl", "enable", "--quiet", "mailer.target")
    if moved:
        _run("systemctl", "restart", "mailer-api.socket", "mailer-api.service")
    click.echo(f"units: {UNITS}/mailer*; settings: {ENV}; the API's address: {listen}")
    if not _is_active("mailer.target"):
        click.echo("start it: systemctl start mailer.target")


@systemd.command(epilog="\b\nExample:\n  sudo mailer systemd uninstall")
@click.option("--purge", is_flag=True, help="Remove settings, mail and the user too.")
def uninstall(purge: bool) -> None:
    """Stop the services and remove their units; settings and mail stay."""
    _require_root()
    there = [name for name in _units() if (UNITS / name).exists()]
    if there:
        _run("systemctl", "disable", "--quiet", "mailer.target")
        units = [name for name in there if not {"@", "/"} & set(name)]
        _run("systemctl", "stop", *units, "mailer-failure@*.service")
    for path in (UNITS / name for name in there):
        path.unlink()
        if path.parent != UNITS and not any(path.parent.iterdir()):
            path.parent.rmdir()
    COMMAND.unlink(missing_ok=True)
    _run("systemctl", "daemon-reload")
    if not purge:
        click.echo(f"kept: {ENV.parent}, {STATE}, the user {USER}; --purge removes them")
        return
    for directory in (ENV.parent, STATE):
        shutil.rmtree(directory, ignore_errors=True)
    if SYSUSERS.exists():
        SYSUSERS.unlink()
        _run("userdel", USER)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise NotInstallable("this needs root: services are the host's")


def _require_in_sight(prefix: Path) -> None:
    """Raises NotInstallable for a program that the services could not see."""
    if not (prefix / "bin" / "mailer").is_file():
        raise NotInstallable(f"{prefix}/bin/mailer does not exist")
    for path in (prefix.resolve(), Path(sys.executable).resolve()):
        if any(path.is_relative_to(place) for place in HIDDEN):
            raise NotInstallable(
                f"{path} is in a place that services are kept from; install mailer elsewhere,"
                " with `pipx install --global`, `UV_TOOL_DIR=/opt/uv uv tool install` or"
                " deploy/install.sh"
            )


def _units() -> Iterator[str]:
    """The names of units and drop-ins, relative to systemd's directory."""
    for file in files("mailer.units").iterdir():
        if file.name.endswith((".service", ".socket", ".target", ".timer")):
            yield file.name
        elif file.name.endswith(".service.d"):
            yield from (f"{file.name}/{drop_in.name}" for drop_in in file.iterdir())


def _text(name: str) -> str:
    return (files("mailer.units") / name).read_text()


def _placed(name: str, prefix: Path, listen: str) -> str:
    """A file with this installation's paths."""
    interpreter = Path(sys.executable).resolve()
    if not interpreter.is_relative_to("/usr"):
        interpreter = Path(sys.base_prefix).resolve()  # its libraries lie beside it
    text = _text(name).replace(PREFIX, str(prefix)).replace(PYTHON, str(interpreter))
    return text.replace(LISTEN, listen)


def _listen(settings: Settings) -> str:
    host, port = settings.listen
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _socket() -> str:
    """The socket's unit, as it was installed before."""
    path = UNITS / "mailer-api.socket"
    return path.read_text() if path.exists() else ""


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Whole or not at all, and never readable by more than `mode` says."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
    new.replace(path)


def _is_active(unit: str) -> bool:
    return subprocess.run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotInstallable(f"{command[0]} is missing: is this a host with systemd?") from None
    if done.returncode:
        raise NotInstallable(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")

"""How a setting is declared: the variable it is read from, the forms it takes, and what it is for.

A class of settings is a frozen dataclass whose fields are made by `setting`: mailer's own
`Settings`, and any that a plugin returns from `mailer_settings`. `read` checks one such class
against the environment and collects its faults. The forms below are for everybody to use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values
from email_validator import EmailNotValidError, validate_email

from mailer.errors import SettingFault, SettingsError

E = TypeVar("E", bound=StrEnum)

Source = tuple[str, Mapping[str, str | None]]
"""A place where variables stand, and what it is called."""


SECRET_MIN_BYTES: Final = 32
SECRET: Final = f"at least {SECRET_MIN_BYTES} bytes, as `openssl rand -base64 48` makes them"


@dataclass(frozen=True, slots=True)
class Variable:
    """How one setting is named, read and explained."""

    names: tuple[str, ...]
    """The first is its name; the others are taken too."""
    parse: Callable[[str], Any]
    accepted: str
    doc: str
    default: Any
    secret: bool

    @property
    def name(self) -> str:
        return self.names[0]


def setting(
    *names: str,
    default: Any,
    parse: Callable[[str], Any],
    accepted: str,
    doc: str,
    secret: bool = False,
) -> Any:
    """A field of a class of settings.

    `parse` makes the value of what is written, and raises ValueError with the words for what is
    wrong with it; for a `secret` they must not quote it. `accepted` tells the form that is right.
    """
    variable = Variable(names, parse, accepted, doc, default, secret)
    return field(default=default, metadata={"variable": variable})


def number(name: str, default: int, low: int, high: int, *, doc: str) -> Any:
    """A field that is a whole number from `low` to `high`."""
    return setting(
        name,
        default=default,
        parse=whole_number(low, high),
        accepted=f"{low} to {high}",
        doc=doc,
    )


def variables(kind: type) -> dict[str, Variable]:
    """Field name → its variable, in the order of the documentation."""
    return {f.name: f.metadata["variable"] for f in fields(kind) if "variable" in f.metadata}


def read(
    kind: type, sources: Sequence[Source]
) -> tuple[dict[str, Any], dict[str, str], list[SettingFault]]:
    """Values by field, origins by variable, and all faults. The first source that has it wins."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    faults: list[SettingFault] = []
    for field_name, variable in variables(kind).items():
        found = _first(variable, sources)
        if found is None:
            continue
        name, place, written = found
        origins[variable.name] = f"{name} in {place}"
        try:
            values[field_name] = variable.parse(written)
        except ValueError as error:
            faults.append(SettingFault(name, _problem(variable, written, error), variable.accepted))
    return values, origins, faults


def read_all(
    kind: type, others: Iterable[type], sources: Sequence[Source]
) -> tuple[dict[str, Any], dict[type, object], dict[str, str]]:
    """Values of one class, the values that are made of the others, and the origins of all.

    Raises SettingsError naming every fault.
    """
    values, origins, faults = read(kind, sources)
    parts: dict[type, object] = {}
    for other in others:
        its_values, its_origins, its_faults = read(other, sources)
        parts[other] = other(**its_values)
        origins |= its_origins
        faults += its_faults
    if faults:
        raise SettingsError(faults)
    return values, parts, origins


def _first(variable: Variable, sources: Sequence[Source]) -> tuple[str, str, str] | None:
    for place, source in sources:
        for name in variable.names:
            if written := source.get(name):
                return name, place, written.strip()
    return None


def _problem(variable: Variable, written: str, error: ValueError) -> str:
    # int() and the like quote what they can't read.
    quoted = variable.secret and written and written in str(error)
    return "it has another form" if quoted else str(error)


def sources(environ: Mapping[str, str], dotenv_path: Path | None) -> list[Source]:
    """Where variables may stand, in the order in which they win. Raises SettingsError."""
    return [
        ("environment", environ),
        ("credentials", credentials(environ.get("CREDENTIALS_DIRECTORY"))),
        (str(dotenv_path), dotenv(dotenv_path)),
    ]


def dotenv(path: Path | None) -> Mapping[str, str | None]:
    """The variables of a `.env` file, if there is one. Raises SettingsError."""
    if path is None or not path.is_file():
        return {}
    try:
        return dotenv_values(path, interpolate=False)  # a secret may well hold ${
    except (OSError, UnicodeDecodeError) as error:
        fault = SettingFault(str(path), f"can't be read: {error}", "UTF-8 lines NAME=value")
        raise SettingsError([fault]) from None


def credentials(directory: str | None) -> Mapping[str, str]:
    """Files named after variables, as systemd's LoadCredential= puts them (systemd.exec(5)).

    systemd 255 names a directory that it has not made when there was nothing to load.
    """
    found: dict[str, str] = {}
    if not directory or not Path(directory).exists():
        return found
    for path in Path(directory).iterdir():
        try:
            found[path.name] = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            fault = SettingFault(path.name, f"{path} can't be read: {error}", "a UTF-8 file")
            raise SettingsError([fault]) from None
    return found


def text(value: str) -> str:
    return value


def path(value: str) -> Path:
    return Path(value).expanduser()


def sqlite_url(value: str) -> Path:
    """The file that `sqlite://file.db` or `sqlite:///abs/file.db` names."""
    prefix, sep, path = value.partition("://")
    if prefix != "sqlite" or not sep or path in {"", "/"} or path.startswith(":memory"):
        raise ValueError("not a SQLite URL")
    return Path("/" + path.lstrip("/") if path.startswith("/") else path)


def secret_key(value: str) -> str:
    if len(value.encode()) < SECRET_MIN_BYTES:
        raise ValueError(f"it is {len(value.encode())} bytes long, too short to be safe")
    return value


def whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", value) or not low <= int(value) <= high:
            raise ValueError(f"not a whole number from {low} to {high}")
        return int(value)

    return parse


def rate(value: str) -> float | None:
    """None: unlimited."""
    if value == "unlimited":
        return None
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", value) or float(value) <= 0:
        raise ValueError("not a rate")
    return float(value)


def share(value: str) -> float:
    """`5%` is 0.05."""
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%", value)
    if not match or float(match[1]) > 100:
        raise ValueError("not a percentage")
    return float(match[1]) / 100


_SECONDS_IN: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def duration_s(value: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})\s*([smhd]?)", value)
    if not match:
        raise ValueError("not a length of time")
    return int(match[1]) * _SECONDS_IN[match[2]]


def switch(value: str) -> bool:
    if value.lower() in {"1", "true", "yes", "on"}:
        return True
    if value.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("neither on nor off")


def address_and_port(value: str) -> tuple[str, int]:
    """`127.0.0.1:3000` or `[::1]:3000`."""
    host, _, port = value.rpartition(":")
    if not host:
        raise ValueError("not host:port")
    address = ip_address(host.removeprefix("[").removesuffix("]"))
    return str(address), whole_number(1, 65535)(port)


def mail_address(value: str) -> str:
    """`address@domain` or `Name <address@domain>`, with an ASCII domain."""
    name, bracket, address = value.rpartition("<")
    if bracket:
        address = address.removesuffix(">")
    if re.search(r"[\x00-\x1f\x7f<>]", name + address):
        raise ValueError("not a mail address")
    try:
        checked = validate_email(
            address.strip(), check_deliverability=False, globally_deliverable=False
        )
    except EmailNotValidError as error:
        raise ValueError(str(error).rstrip(".")) from None
    if checked.ascii_email is None:
        raise ValueError("not an address that every server takes: it is not ASCII before the @")
    return f"{name.strip()} <{checked.ascii_email}>" if bracket else checked.ascii_email


def network(value: str) -> str:
    """An address, or a network as `10.0.0.0/8`."""
    return str(ip_network(value)) if "/" in value else str(ip_address(value))


def base_url(value: str) -> str:
    """Without the slash at its end."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("not a base URL")
    return value.rstrip("/")


def several(form: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Values of one form, separated by commas."""
    return lambda value: tuple(form(part.strip()) for part in value.split(",") if part.strip())


def one_of(kind: type[E]) -> Callable[[str], E]:
    return lambda value: kind(value)


def log_level(value: str) -> str:
    if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("not a level")
    return value.upper()
